"""Pictures as tables: grey levels between 0 and 1, and the label of each row; MNIST for those who have a network.

scikit-learn is imported inside each function: it takes a second, and most runs need none of it.
"""

from typing import Any

from pandas import DataFrame, Series

from ..errors import InputError
from ..imports import undrawn

__all__ = ["LABELLED", "WHITE", "labels", "mnist", "pixels"]

WHITE = {"digits": 16.0, "mnist": 255.0}  # the brightest grey level
LABELLED = {"digits": "digit", "mnist": "digit", "iris": "species", "wine": "cultivar"}  # what a row's label says


def mnist() -> DataFrame:
    """Handwritten digits, 28 by 28 pixels (LeCun et al. 1998): 70,000 rows, 784 columns, grey levels 0 to 255.

    Fetched from OpenML at the first call, then kept in scikit-learn's data folder. Raises InputError without a network.
    """
    return _mnist().data


def pixels(name: str) -> DataFrame:
    """The pictures of `digits` or `mnist`, grey levels from 0 to 1: N rows, a column a pixel."""
    if name not in WHITE:
        raise InputError(f"{name!r} is no set of pictures: choose one of {', '.join(WHITE)}")
    return (mnist() if name == "mnist" else _loaded("load_digits").data) / WHITE[name]


def labels(name: str) -> Series:
    """What each row of `digits`, `mnist`, `iris` or `wine` shows: N names or digits, in the order of the rows."""
    if name not in LABELLED:
        raise InputError(f"{name!r} has no labels: choose one of {', '.join(LABELLED)}")
    if name == "mnist":
        return _mnist().target.astype(int).rename(LABELLED[name])
    found = _loaded(f"load_{name}")
    return Series(found.target_names[found.target], index=found.data.index, name=LABELLED[name])


def _loaded(loader: str) -> Any:
    with undrawn():
        import sklearn.datasets

    return getattr(sklearn.datasets, loader)(as_frame=True)


def _mnist() -> Any:
    with undrawn():
        from sklearn.datasets import fetch_openml

    try:
        return fetch_openml("mnist_784", version=1, as_frame=True)
    except OSError as error:  # urllib's errors, and those of sockets
        raise InputError(f"mnist could not be fetched ({error}): it needs a network, digits does not") from error
