"""A report is one file that asks for nothing: verdict, table, pictures, model, data, lines of code; all escaped."""

import json
import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
import pyro
import pyro.distributions as dist
import pytest
import torch
from options import brief
from pyrometer import Comparison, InputError, compare, load, svi
from pyrometer.inference.cli.main import main
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.report import program, save
from pyrometer.inference.report.data_summary import data_table
from pyrometer.inference.report.page import picture
from pyrometer.inference.report.program import graph_html, source
from pyrometer.models import BayesianGMM
from torch import Tensor
from truths import two_clusters

BRIEF: dict[str, Any] = {"steps": 60, "starts": 1, "warmup": 60, "draws": 60, "chains": 2, "progress": False}
TAG, FORMULA = "<script>alert(1)</script>", '=HYPERLINK("http://x","y")'
EVIL, LONG = '"><img src=x onerror=alert(1)>', "a_guide_of_a_long_name" * 3
GUIDES = {EVIL: "auto_normal", FORMULA: "auto_delta", LONG: "structured"}
CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
OPTIONS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
OPTIONS += ["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"]
in_a_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no chromium with its chromedriver here")


def line(x: Tensor, y: Tensor) -> None:
    """A line through y."""
    slope = pyro.sample("slope", dist.Normal(0.0, 10.0))
    with pyro.plate("data", len(x)):
        pyro.sample("y", dist.Normal(slope * x, 1.0), obs=y)


@pytest.fixture(scope="module")
def comparison() -> Iterator[Comparison]:
    """Of a mixture, on columns and with guides of hostile names."""
    frame = pd.DataFrame(two_clusters().numpy(), columns=[TAG, FORMULA])
    yield compare(BayesianGMM(2), frame, GUIDES, reference=EVIL, **BRIEF)
    plt.close("all")


@pytest.fixture(scope="module")
def written(comparison: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return comparison.report(tmp_path_factory.mktemp("report") / "deep" / "out.html")


@pytest.fixture(scope="module")
def text(written: Path) -> str:
    return written.read_text()


def test_the_page_holds_each_part(text: str) -> None:
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles[:2] == ["The table", "What to try next"]
    assert titles[-3:] == ["The model", "The data", "How to reproduce"]
    assert len(re.findall('<img alt="[^"]+" src="data:image/png;base64,', text)) >= 3
    assert "Verdict: " in text
    assert "model = BayesianGMM(components=2)" in text
    assert "seed=0," in text
    assert "Seed 0" in text
    for package in ("python", "torch", "pyro-ppl", "arviz", "pyrometer"):
        assert f'<th scope="row">{package}</th>' in text
    assert "class BayesianGMM:" in text


def test_the_page_asks_for_nothing_and_runs_nothing(text: str) -> None:
    assert len(text.encode()) < 3_000_000
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []
    assert re.findall(r"<(?:script|iframe|object|embed|form)\b", text) == []
    assert re.findall(r"@import|url\(", text) == []
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_names_from_the_data_are_no_tags(text: str, comparison: Comparison) -> None:
    for page in (text, comparison._repr_html_(), *(fit._repr_html_() for fit in comparison.fits.values())):
        assert TAG not in page
        assert EVIL not in page
        assert "<img src=x" not in page
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 1  # the column is there, as text


def test_names_are_no_formulas_in_a_spreadsheet_and_come_back(
    comparison: Comparison, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(save, "pictures_of", lambda comparison: {})
    monkeypatch.setattr(save, "report_of", lambda comparison, methods, command, drawn: command)
    comparison.save(tmp_path)
    for path in tmp_path.glob("*.csv"):
        cells = pd.read_csv(path, header=None, dtype=str).to_numpy().ravel()
        assert [cell for cell in cells if isinstance(cell, str) and re.match(r"[=+@]|-\D", cell)] == [], path.name
    again = load(tmp_path, BayesianGMM(2))
    assert isinstance(again, Comparison)
    assert list(again.table.index) == [EVIL, FORMULA, LONG]
    assert list(again.parameters.index) == list(comparison.parameters.index)
    assert again.headline() == comparison.headline()
    assert "index.html" in {path.name for path in tmp_path.iterdir()}


def test_a_folder_or_a_file_in_the_way_is_one_line(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it is a folder; name a file"):
        comparison.report(tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(InputError, match="is a file; choose another folder"):
        comparison.report(tmp_path / "file" / "out.html")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_picture_that_fails_costs_itself_alone() -> None:
    def broken() -> None:
        raise ValueError("no <b>ink</b>")

    assert "not drawn: ValueError: no &lt;b&gt;ink&lt;/b&gt;" in picture(broken, "a picture")
    assert 'alt="a &#34;picture&#34;"' in picture(lambda: plt.figure(), 'a "picture"')
    plt.close("all")


def test_the_source_is_that_of_the_model_whatever_it_is() -> None:
    assert source(line).startswith('def line(x: Tensor, y: Tensor) -> None:\n    """A line through y.')
    assert source(partial(line, y=torch.zeros(1))) == source(line)
    assert "class BayesianGMM:" in source(BayesianGMM(2))
    made: dict[str, Any] = {}
    exec("def typed(x): pass", made)
    assert source(made["typed"]) == ""
    assert source(pyro.poutine.scale(line, 2.0)) == ""  # what wraps the model, and not the model


@pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
def test_the_graph_is_drawn_where_graphviz_is(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.linspace(-1, 1, 9).double()
    data, _ = data_for(line, (x, 2 * x), None)
    drawn, why = graph_html(line, data)
    assert why == ""
    assert "data:image/svg+xml;base64," in str(drawn)
    monkeypatch.setattr(program.shutil, "which", lambda name: None)
    assert graph_html(line, data) == (None, "The graph is left out: graphviz, with its program dot, is not installed.")


def test_a_model_that_pyro_cannot_follow_costs_the_graph_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no such thing")

    monkeypatch.setattr(program.shutil, "which", lambda name: "/usr/bin/dot")
    monkeypatch.setattr(program.pyro, "render_model", fails)
    x = torch.linspace(-1, 1, 9).double()
    assert graph_html(line, data_for(line, (x, 2 * x), None)[0])[1].startswith("The graph could not be drawn: NotImpl")


def test_the_data_are_told_in_figures() -> None:
    x = torch.tensor([1.0, 2.0, 6.0]).double()
    table = data_table(data_for(line, {"x": x, "y": 2 * x}, None)[0])
    assert [cell.text for cell in table.rows["y"].values()] == ["3", "float64", "2", "6", "12", "0"]
    frame = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0], "b": [0.0, 1.0, 0.0, 5.0]})
    columns = data_table(data_for(BayesianGMM(1), frame, None)[0])
    assert [cell.text for cell in columns.rows["b"].values()] == ["4", "float64", "0", "1.5", "5", "0"]


def test_the_lines_of_code_make_the_same_numbers_again(tmp_path: Path) -> None:
    import pyrometer

    data = {"x": torch.linspace(-1, 1, 9).double(), "y": torch.linspace(-2, 2, 9).double()}
    options = {**BRIEF, "reference": "laplace"}
    own = compare(line, data, ["auto_normal"], methods=["svi", "laplace", "bam"], seed=3, **options)
    text = own.report(tmp_path / "out.html").read_text()
    code = re.search(r"<code>(import pyrometer.*?)</code>", text, re.S)
    assert code is not None
    plain = code[1].replace("&#39;", "'").replace("&#34;", '"')
    made: dict[str, Any] = {"line": line, "given": data}
    exec(plain.replace("data = ...", "data = given"), {**made, "pyrometer": pyrometer}, made)
    pd.testing.assert_frame_equal(made["comparison"].table.drop(columns="seconds"), own.table.drop(columns="seconds"))


def test_a_fit_says_its_figure_in_its_line_and_in_colour(comparison: Comparison) -> None:
    x = torch.linspace(-1, 1, 30).double()
    fit = svi(line, "auto_normal", (x, 2 * x), starts=1, lr=0.05, progress=False)
    assert re.search(r"k-hat -?\d\.\d\d, ELBO -\d+\.\d\d ± 0\.\d\d\)$", repr(fit))
    html = fit._repr_html_()
    assert 'class="chip ' in html
    assert "slope" in html
    assert "A line through y." in html
    sampled = compare(line, (x, 2 * x), [], **{**BRIEF, "draws": 400, "warmup": 200})["nuts"]
    assert re.search(r"(R-hat \d\.\d{3}, ESS \d+|not converged: .*)\)$", repr(sampled))
    assert "<script" not in html


def test_the_command_line_writes_a_report_alone_and_one_in_every_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quick = brief("auto_normal", "auto_normal")
    alone, out = tmp_path / "new" / "alone.html", tmp_path / "out"
    assert main(["compare", "faithful", *quick, "--report", str(alone)]) == 0
    assert f"report written to {alone}" in capsys.readouterr().out
    assert "<code>pyrometer compare faithful --guides auto_normal --reference auto_normal" in alone.read_text()
    few = ["--components", "1", "--draws", "50", "--starts", "1", "--folds", "0", "--quiet"]
    assert main(["components", "faithful", *few, "--out", str(out)]) == 0
    assert "Every criterion against the number of components" in (out / "index.html").read_text()
    capsys.readouterr()
    assert main(["compare", "faithful", *quick, "--report", str(tmp_path)]) == 2
    assert "it is a folder" in capsys.readouterr().err


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for option in [*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def opened(browser: Any, written: Path, width: int, scheme: str) -> list[str]:
    """Open the page at a width; the addresses that were asked for."""
    browser.get("about:blank")
    browser.get_log("performance")  # what the browser asked itself for
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get(written.as_uri())
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_table_and_pictures_are_there_at_every_width(browser: Any, written: Path, width: int, scheme: str) -> None:
    asked = opened(browser, written, width, scheme)
    assert [url for url in asked if not url.startswith(("data:", "chrome:"))] == [written.as_uri()]
    run = browser.execute_script
    assert run("return document.documentElement.scrollWidth") <= width  # what is wider scrolls within its own part
    rows = run("return [...document.querySelectorAll('table')[0].querySelectorAll('tbody th')].map(e => e.innerText)")
    assert rows == [EVIL, FORMULA, LONG]
    sizes = run("return [...document.images].map(e => [e.complete, e.naturalWidth, e.getBoundingClientRect().width])")
    assert len(sizes) >= 3
    assert all(complete and natural > 50 and shown > 50 for complete, natural, shown in sizes)
    assert run("return document.scripts.length") == 0
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []


@in_a_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_readable_in_light_and_dark(browser: Any, written: Path, scheme: str) -> None:
    opened(browser, written, 1280, scheme)
    colours = "const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]"
    ink, paper = (_luminance(colour) for colour in browser.execute_script(colours))
    assert (paper > ink) == (scheme == "light")
    bright, dark = max(ink, paper), min(ink, paper)
    assert (bright + 0.05) / (dark + 0.05) > 7  # WCAG 2.2, level AAA


def _luminance(colour: str) -> float:
    """The relative luminance of rgb(r, g, b) (WCAG 2.2)."""
    shares = [int(part) / 255 for part in colour.partition("(")[2].rstrip(")").split(",")[:3]]
    linear = [share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4 for share in shares]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
