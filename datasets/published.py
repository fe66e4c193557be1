"""Published posteriors: the data and the reference moments of posteriordb."""

import gzip
import json
from importlib.resources import files
from typing import Any

import numpy as np
from pandas import DataFrame

from ..errors import InputError

__all__ = ["PUBLISHED", "published_data", "reference"]

PUBLISHED = (
    "arK-arK",
    "arma-arma11",
    "diamonds-diamonds",
    "earnings-logearn_height",
    "eight_schools-eight_schools_centered",
    "eight_schools-eight_schools_noncentered",
    "garch-garch11",
    "gp_pois_regr-gp_pois_regr",
    "hmm_example-hmm_example",
    "kidiq-kidscore_interaction",
    "kidiq-kidscore_momiq",
    "kilpisjarvi_mod-kilpisjarvi",
    "mesquite-logmesquite_logvas",
    "nes1992-nes",
    "sblrc-blr",
)


def published_data(name: str) -> dict[str, Any]:
    """The data of a published posterior, under the names of its Stan program.

    Parameters
    ----------
    name
        One of `PUBLISHED`.

    Returns
    -------
    dict
        Arrays of float64, of int64 where the numbers are counts or codes; single numbers as float or int.

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> published_data("eight_schools-eight_schools_centered")["y"]
    array([28.,  8., -3.,  7., -1.,  1., 18., 12.])
    """
    data = _read(name)["data"]
    return {key: np.array(value) if isinstance(value, list) else value for key, value in data.items()}


def reference(name: str) -> DataFrame:
    """Moments and quantiles of the reference draws of a published posterior.

    Parameters
    ----------
    name
        One of `PUBLISHED`.

    Returns
    -------
    DataFrame
        A row for each scalar parameter, indexed from 1 (``theta[1]``); columns ``mean``, ``sd``, ``q05``, ``q50``,
        ``q95``, and ``n``, the number of draws, which are nearly independent.

    Raises
    ------
    InputError
        The name is unknown.

    Examples
    --------
    >>> reference("kidiq-kidscore_momiq")["mean"].round(2).to_dict()
    {'beta[1]': 25.92, 'beta[2]': 0.61, 'sigma': 18.28}
    """
    return DataFrame.from_dict(_read(name)["reference"], orient="index")


def _read(name: str) -> dict[str, Any]:
    if name not in PUBLISHED:
        raise InputError(f"no published posterior is called {name!r}: choose one of {', '.join(PUBLISHED)}")
    packed = files(__package__).joinpath("posteriordb", f"{name}.json.gz").read_bytes()
    content: dict[str, Any] = json.loads(gzip.decompress(packed))
    return content
