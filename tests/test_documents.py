"""README and site, held to their word: every example runs, every list is complete, every command is one."""

import re
import shlex
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib as mpl
import pyrometer
import pytest
from pyrometer.guides import AUTO, CATALOGUE
from pyrometer.inference.cli import main as command_line
from pyrometer.inference.compare import comparison, verdict
from pyrometer.inference.compare.columns import COLUMNS, ROW_COLUMNS, Column
from pyrometer.inference.fit import convergence
from pyrometer.inference.local_latents.marginal import Budget
from pyrometer.inference.local_latents.row_fit import RowFit
from pyrometer.inference.svi import until_done

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [README, *sorted(DOCS.glob("*.md")), *sorted(DOCS.glob("howto/*.md"))]
BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.S | re.M)
LANGUAGES = {"python", "bash", "text"}  # what else is fenced is a directive, in braces
EXAMPLES: dict[str, str] = {  # code -> where it stands
    code: f"{page.stem}-{number}"
    for page in PAGES
    for number, (language, code) in enumerate(BLOCK.findall(page.read_text()), 1)
    if language == "python"
}
CLUSTERS = [code for language, code in BLOCK.findall((DOCS / "howto/many_fits.md").read_text()) if language == "python"]
HERE = [code for code in EXAMPLES if code not in CLUSTERS]  # tests/workers runs the others
SMOKE = {"steps": 60, "starts": 1, "warmup": 60, "draws": 100, "chains": 2, "progress": False}
CHAIN = {"warmup": 60, "draws": 60, "chains": 1, "jobs": 1, "compile": True}
ALONE = {"howto/command_line.md", "howto/index.md", "howto/speed.md"}  # how-to pages that need no Python


def small(function: Callable[..., Any], **sizes: Any) -> Callable[..., Any]:
    """The function with these options, whatever it is called with."""
    return wraps(function)(lambda *args, **options: function(*args, **{**options, **sizes}))


@pytest.mark.filterwarnings("ignore:.*latent units are inactive")
@pytest.mark.parametrize("example", HERE, ids=[EXAMPLES[code] for code in HERE])
def test_the_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    pyrometer.datasets.load("faithful")[:40].to_csv("mine.csv", index=False)
    if "VAE(" not in example:  # C for however few draws, the trees of a short warmup being deep
        monkeypatch.setattr("pyrometer.inference.compilation.compiled.MIN_SECONDS_FOR_NATIVE", 0.0)
    monkeypatch.setattr(pyrometer, "explore", small(pyrometer.explore, reference=None))
    monkeypatch.setattr(pyrometer, "compare", small(pyrometer.compare, **SMOKE, rows=2))
    few = small(pyrometer.choose_components, components=range(1, 3), starts=1, draws=60, folds=2, progress=False)
    monkeypatch.setattr(pyrometer, "choose_components", few)
    monkeypatch.setattr(pyrometer, "calibrate", small(pyrometer.calibrate, simulations=25, progress=False, jobs=1))
    monkeypatch.setattr("pyrometer.inference.calibration.calibrate.MIN_SIMULATIONS", 25)
    monkeypatch.setattr("pyrometer.inference.calibration.calibrate.NUTS", CHAIN)
    monkeypatch.setattr(pyrometer, "train", small(pyrometer.train, epochs=2, draws=5, progress=False))
    monkeypatch.setattr(pyrometer, "svi", small(pyrometer.svi, steps=60, draws=60, progress=False))
    budget = Budget(draws=100, chains=4, temperatures=20)
    monkeypatch.setattr("pyrometer.inference.local_latents.gaps.CAREFUL", budget)
    sizes = {"draws": budget.draws, "chains": budget.chains, "temperatures": budget.temperatures}
    monkeypatch.setattr(RowFit, "marginal_likelihood", small(RowFit.marginal_likelihood, **sizes))
    monkeypatch.setattr(RowFit, "log_likelihood", small(RowFit.log_likelihood, draws=50))
    monkeypatch.setattr("pyrometer.inference.compare.decoder.ROWS", 4)
    monkeypatch.setattr(comparison, "amortisation_gaps", small(comparison.amortisation_gaps, steps=60))
    monkeypatch.setattr(pyrometer, "score_strings", small(pyrometer.score_strings, budget=budget, ais_rows=2))
    exec(compile(example, EXAMPLES[example], "exec"), {})


def test_no_block_of_code_escapes_the_tests() -> None:
    strange = {
        (page.name, language)
        for page in PAGES
        for language, _ in BLOCK.findall(page.read_text())
        if language not in LANGUAGES and not language.startswith("{")
    }
    assert strange == set()


def test_every_how_to_page_has_an_example() -> None:
    pages = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.glob("howto/*.md")}
    assert {name for name, text in pages.items() if "```python" not in text} == ALONE


def test_a_regression_and_a_mixture_take_eight_lines_from_the_data_to_the_verdict() -> None:
    examples = [code for _, code in BLOCK.findall(README.read_text()) if code in HERE]
    to_verdict = [code[: code.index("\n", code.index("\nprint(") + 1)] for code in examples]
    lines = [[line for line in code.splitlines() if line.strip() and not line.startswith("#")] for code in to_verdict]
    assert ["pyro.plate" in code for code in examples] == [True, False]
    assert ["BayesianGMM" in code for code in examples] == [False, True]
    assert all(len(code) <= 8 and "load(" in "".join(code) and "compare(" in "".join(code) for code in lines)


def test_slurm_takes_five_lines_of_the_readme() -> None:
    slurm = next(code for code in CLUSTERS if "SLURMCluster" in code)
    assert f"```python\n{slurm}```" in README.read_text()
    assert len([line for line in slurm.splitlines() if line]) == 5


def test_the_readme_is_one_screen_and_a_half() -> None:
    assert len(README.read_text().splitlines()) <= 95


@pytest.mark.parametrize(("columns", "page"), [(COLUMNS, "howto/read_table.md"), (ROW_COLUMNS, "howto/vae.md")])
def test_the_tables_of_columns_are_those_of_the_code(columns: tuple[Column, ...], page: str) -> None:
    table = (DOCS / page).read_text().split("| column | what it says")[1].split("\n\n")[0]
    listed = [line for line in table.splitlines() if line.startswith("| `")]
    assert listed == [f"| `{column.name}` | {column.says} |" for column in columns]


def test_every_guide_and_every_data_set_is_listed() -> None:
    listed = (DOCS / "catalogue.md").read_text()
    names = {name for guides in CATALOGUE.values() for name in guides} | set(AUTO) | set(pyrometer.datasets.DATASETS)
    names |= {kind.__name__ for kind in CATALOGUE}
    assert [name for name in sorted(names) if f"`{name}`" not in listed] == []


def test_every_public_name_is_in_the_reference() -> None:
    reference = "".join(path.read_text() for path in DOCS.glob("reference/*.md"))
    modules = [name for name in pyrometer.__all__ if isinstance(getattr(pyrometer, name), ModuleType)]
    names = [*pyrometer.__all__, *pyrometer.models.__all__, *pyrometer.plots.__all__, *pyrometer.datasets.DATASETS]
    assert [name for name in names if name not in modules and f":: {name}\n" not in reference] == []
    assert [name for name in modules if f".. currentmodule:: pyrometer.{name}\n" not in reference] == []


def test_the_commands_that_are_shown_are_understood() -> None:
    commands = [
        line
        for page in PAGES
        for language, block in BLOCK.findall(page.read_text())
        for line in block.splitlines()
        if language == "bash" and line.startswith("pyrometer ") and line.partition("#")[0].split()[1:]
    ]
    assert len(commands) >= 6
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        assert command_line._parser(words).parse_args(words).run is not None, line


def test_the_thresholds_of_the_verdict_are_those_of_the_code() -> None:
    page = (DOCS / "verdict.md").read_text()
    low, high = verdict.GOOD_RATIO
    thresholds = {
        "a mean from the reference's": f"{verdict.GOOD_BIAS} sd",
        "an sd over the reference's": f"{low} to {high}",
        "Pareto k-hat": f"below {verdict.GOOD_KHAT}",
        "standard errors": f"{verdict.SURE:g}",
        "R-hat": f"at most {convergence.RHAT}",
        "effective sample size": f"at least {convergence.ESS_PER_CHAIN} a chain",
        "a further block": f"{until_done.TOLERANCE} nats",
        "R-hat of short chains": f"at most {verdict.SHORT_RHAT}",
        "effective sample size of short chains": f"at least {verdict.SHORT_ESS}",
    }
    assert [name for name, value in thresholds.items() if f"| {name} | {value} |" not in page] == []


def test_the_readme_says_of_the_atlas_what_the_atlas_says() -> None:
    said, atlas = (" ".join(path.read_text().split()) for path in (README, DOCS / "atlas.md"))
    (fits,) = re.findall(r"(\d+) fits of (\d+) posteriors", atlas)
    trust, alarms = (re.findall(rf"False {what}: ([\d.]+%)", atlas) for what in ("trust", "alarms"))
    assert f"{fits[0]} fits of {fits[1]} posteriors" in said
    assert re.findall(r"[\d.]+%", said) == [trust[0], alarms[0], trust[1], alarms[1]]


def test_links_between_pages_lead_somewhere() -> None:
    pages = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.glob("reference/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())]
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
