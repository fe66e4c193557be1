"""Data to try things on: tables and published posteriors that ship here, scikit-learn's, mixtures, and a user's own."""

from collections.abc import Callable
from pathlib import Path

from pandas import DataFrame

from ..errors import InputError, check_path
from .file_formats import SUFFIXES, read_table
from .hidden_markov import HiddenMarkovStrings, grammar, molecule_grammar
from .pictures import LABELLED, WHITE, labels, mnist, pixels
from .published import PUBLISHED, published_data, reference
from .scikit_learn import digits, iris, wine
from .shipped import faithful, galaxies
from .synthetic import blobs, univariate_blobs
from .text_files import TEXT, read_strings

__all__ = [
    "DATASETS",
    "LABELLED",
    "PUBLISHED",
    "SUFFIXES",
    "WHITE",
    "HiddenMarkovStrings",
    "blobs",
    "digits",
    "faithful",
    "galaxies",
    "grammar",
    "iris",
    "labels",
    "load",
    "mnist",
    "molecule_grammar",
    "pixels",
    "published_data",
    "read_strings",
    "reference",
    "univariate_blobs",
    "wine",
]

DATASETS: dict[str, Callable[[], DataFrame]] = {
    "blobs": blobs,
    "digits": digits,
    "faithful": faithful,
    "galaxies": galaxies,
    "grammar": grammar,
    "iris": iris,
    "mnist": mnist,
    "univariate_blobs": univariate_blobs,
    "wine": wine,
}


def load(name_or_path: str | Path) -> DataFrame:
    """A data set by its name, or a user's own table by its path.

    Parameters
    ----------
    name_or_path
        A key of `DATASETS`, or the path of a ``.csv`` or ``.parquet`` file, or of strings, one a line, in a
        ``.txt``, ``.smi`` or ``.smiles`` file. A string that is a key is never a path; write ``"./faithful"`` or a
        ``Path`` for a file of that name.

    Returns
    -------
    DataFrame
        A fresh copy, the caller's to change.

    Raises
    ------
    InputError
        The name is unknown, or the file is missing or not a table.

    Examples
    --------
    >>> load("faithful").shape
    (272, 2)
    """
    if isinstance(name_or_path, str):
        if name_or_path in DATASETS:
            return DATASETS[name_or_path]()
        if not _looks_like_a_path(name_or_path):
            raise InputError(
                f"no data set is called {name_or_path!r}: choose one of {', '.join(DATASETS)}, "
                f"or give the path of a {' or '.join(SUFFIXES)} file"
            )
    path = check_path(name_or_path)
    return read_strings(path).to_frame() if path.suffix.lower() in TEXT else read_table(path)


def _looks_like_a_path(text: str) -> bool:
    return "/" in text or "\\" in text or Path(text).suffix != "" or check_path(text).exists()
