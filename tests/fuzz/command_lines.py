"""Command lines as people type them, good and odd: every command, every option, good and bad values, in any order."""

from __future__ import annotations

from dataclasses import dataclass

from fuzz.odd_files import LONG, OddFile, odd_files
from hypothesis import strategies as st

# What keeps a run that succeeds short; one of these is never left out, only given once more or with a bad value.
COMPARE = "--steps 4 --starts 1 --draws 6 --warmup 4 --chains 1 --rows 2 --hidden 3 --latent 1 --units 3 --clusters 2"
SHORT = {
    "compare": f"--guides auto_normal --reference none {COMPARE} --quiet",
    "components": "--components 1 --starts 1 --draws 6 --folds 0 --quiet",
    "train": "--epochs 1 --hidden 3 --latent 1 --units 3 --clusters 2 --quiet",
    "guides": "",
}
BAD_NUMBERS = ["0", "-1", "nan", "inf", "-inf", str(10**18), "9" * 400, "1.5", "1e3", "two", "", " ", "1_0", "٣", "0x1"]
BAD_NUMBERS += ["+1", "1,2", "1-", "-", "1e-400", "true"]
BAD_WORDS = ["", " ", "psychic", "\x00", "\udcff", "~nouser", LONG, "größe", "a,b", ",", "*", "$x_{$", "<b>", "-"]
BAD_WORDS += ["\x1b[31m", "None", "auto", "__class__", "../..", "%s", "{}", "a\nb"]
MODELS = "gmm,bayesian-gmm,dirichlet-process-gmm,univariate-mixture,correlated-gaussian,vae,labelled-vae,sequence-vae"
GUIDES = "auto_normal,auto_mvn,auto_delta,auto_laplace,structured,mean_field,encoder,encoder_full,free,marginal,sampled"
METHODS = ["svi", "svi,laplace", "em", "cavi", "svi,pathfinder", "svi,dadvi", "svi,bam", "laplace"]
COVARIANCES = ["full", "diagonal", "tied", "spherical"]
PATHS = ["out", "out", "out", "full", "a/b/c", ".", "/dev/full", "/dev/full/x", "/dev/null", "/proc", "/proc/x"]
PATHS += ["/proc/self/fd/x", "~nouser", "~nouser/x", "", " ", "\x00", "a\x00b", LONG, f"{LONG}/x", "\udcff", "größe"]
PATHS += ["-"]
PATHS += ["file", "file/x", "$x_{$", "/dev/stdout", "loop", "loop/x", "<b>", "a\nb", "\x1b[31m", "out/", "out/."]
VAE = {
    "--latent": ["1", "2"],
    "--decoder": ["linear", "mlp", "conv"],
    "--prior": ["normal", "mixture", "vamp", "flow"],
    "--clusters": ["1", "3"],
    "--beta": ["0.5", "4"],
    "--likelihood": ["gaussian", "gaussian_diagonal", "bernoulli", "continuous_bernoulli"],
    "--hidden": ["2", "3,2"],
    "--white": ["1", "255", "1e-300", "1e300"],
    "--device": ["cpu", "cuda", "cuda:7", "meta", "mps"],
    "--units": ["2"],
    "--max-length": ["3", "1", "70"],
    "--word-dropout": ["0", "0.5"],
    "--alphabet": ["CON", "ab", "C"],
}
DATA = {"--columns": ["a", "a,b", "width", "eruptions"], "--holdout": ["0.3", "0.5", "0.01"], "--test": []}
OPTIONS: dict[str, dict[str, list[str]]] = {
    "compare": {
        **DATA,
        **VAE,
        "--model": MODELS.split(","),
        "--components": ["1", "2", "3", "40"],
        "--covariance": COVARIANCES,
        "--guides": [*GUIDES.split(","), "auto_normal,auto_delta"],
        "--methods": METHODS,
        "--reference": ["none", "nuts", "auto_normal", "em", "laplace"],
        "--rows": ["1", "3"],
        "--checkpoint": [],
        "--steps": ["1", "3"],
        "--starts": ["2"],
        "--draws": ["1", "2", "30"],
        "--warmup": ["1"],
        "--chains": ["2"],
        "--batch-size": ["1", "3", "500"],
        "--jobs": ["1"],
        "--compile": ["auto", "no"],
        "--seed": ["1", "4294967295"],
        "--report": [],
        "--out": [],
        "--quiet": [],
    },
    "components": {
        **DATA,
        "--model": MODELS.split(","),
        "--components": ["1-2", "2", "2,1", "3-9", "1,1"],
        "--covariance": COVARIANCES,
        "--folds": ["0", "2"],
        "--starts": ["2"],
        "--draws": ["1", "2"],
        "--jobs": ["1"],
        "--seed": ["1"],
        "--out": [],
        "--quiet": [],
    },
    "train": {
        **DATA,
        **VAE,
        "--label": ["a", "width", "digit"],
        "--model": ["vae", "sequence-vae", "gmm"],
        "--guide": GUIDES.split(","),
        "--epochs": ["2"],
        "--batch-size": ["1", "3", "500"],
        "--warmup": ["1", "7"],
        "--patience": ["1", "auto"],
        "--lr": ["0.01", "1e10", "1e-30"],
        "--binarize": ["fixed", "stochastic"],
        "--estimator": ["auto", "IWAE", "Trace_ELBO"],
        "--seed": ["1"],
        "--out": [],
        "--resume": [],
        "--quiet": [],
    },
    "guides": {"--model": MODELS.split(",")},
}
FLAGS = ["--quiet", "--resume"]
NUMBERS = ["--components", "--holdout", "--rows", "--latent", "--clusters", "--beta", "--hidden", "--white", "--units"]
NUMBERS += ["--max-length", "--word-dropout", "--steps", "--starts", "--draws", "--warmup", "--chains", "--batch-size"]
NUMBERS += ["--seed", "--folds", "--epochs", "--patience", "--lr"]
ODD_ARGUMENTS = ["--help", "-h", "--version", "--print-completion", "bash", "--", "-", "--frobnicate", "--se", "--c"]
ODD_ARGUMENTS += ["-q"]
ODD_ARGUMENTS += ["extra", "--quiet=yes", "--steps=", "---", "compare", "train", "guides", "", "\udcff", "\x00"]
ODD_ARGUMENTS += ["@file", LONG]
SHIPPED = ["faithful", "galaxies", "iris", "blobs", "univariate_blobs", "wine"]


@dataclass(frozen=True)
class CommandLine:
    """Arguments, and the files that lie in the folder in which they are given."""

    argv: list[str]
    files: list[OddFile]


@st.composite
def command_lines(draw: st.DrawFn) -> CommandLine:
    """A command with what keeps it short, then up to three more options, and now and then a slip of the hand."""
    command = draw(st.sampled_from(["compare"] * 3 + ["train"] * 4 + ["components"] * 3 + ["guides"]))
    files = [draw(odd_files()) for _ in range(draw(st.sampled_from([1, 1, 1, 0, 2])))]
    known = [file.name for file in files]
    data = [draw(_data(known))] if command != "guides" else []
    short = _pairs(SHORT[command].split())
    more = [draw(_option(command, known)) for _ in range(draw(st.sampled_from([0, 1, 1, 2, 3])))]
    parts = [data, *short, *more]
    if draw(st.sampled_from([False, False, True])):
        parts = draw(st.permutations([*more, data])) + short if draw(st.booleans()) else [*short, *more, data]
    argv = [command, *(word for part in parts for word in part)]
    return CommandLine(draw(_slip(argv)), files)


def _pairs(words: list[str]) -> list[list[str]]:
    """Options with their values."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("--"):
            found.append([word])
        else:
            found[-1].append(word)
    return found


@st.composite
def _data(draw: st.DrawFn, files: list[str]) -> str:
    """DATA: mostly a file that is there."""
    if files and draw(st.sampled_from([True] * 4 + [False])):
        return f"{draw(st.sampled_from(['', './']))}{draw(st.sampled_from(files))}"
    return draw(st.sampled_from([*SHIPPED * 6, *PATHS, "missing.csv", "/dev/zero", "/dev/null", "~nouser/a.csv"]))


@st.composite
def _option(draw: st.DrawFn, command: str, files: list[str]) -> list[str]:
    """An option of the command with a value, good in four of five cases; by its name, or by `name=value`."""
    name = draw(st.sampled_from(sorted(OPTIONS[command])))
    if name in FLAGS:
        return [name]
    good = OPTIONS[command][name] or [*files, *PATHS]
    bad = BAD_NUMBERS if name in NUMBERS else BAD_WORDS
    value = draw(st.sampled_from(good if draw(st.sampled_from([True, True, True, True, False])) else bad))
    return [f"{name}={value}"] if draw(st.sampled_from([False, False, False, True])) else [name, value]


@st.composite
def _slip(draw: st.DrawFn, argv: list[str]) -> list[str]:
    """Usually the arguments as they are, else one left out, put in, doubled or cut short."""
    what = draw(st.sampled_from(["none"] * 16 + ["leave out", "put in", "double", "cut short"]))
    at = draw(st.integers(0, len(argv) - 1))
    limits = " ".join(SHORT.values()).split()
    if what == "leave out" and argv[at] not in limits:
        return [*argv[:at], *argv[at + 1 :]]
    if what == "put in":
        return [*argv[:at], draw(st.sampled_from(ODD_ARGUMENTS)), *argv[at:]]
    if what == "double":
        return [*argv[: at + 1], *argv[at:]]
    if what == "cut short" and argv[at] not in limits:
        return [*argv[:at], argv[at][: draw(st.integers(0, len(argv[at])))], *argv[at + 1 :]]
    return argv
