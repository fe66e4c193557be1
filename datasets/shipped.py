"""Small real tables that ship with the package."""

from importlib.resources import files

import pandas as pd
from pandas import DataFrame

__all__ = ["faithful", "galaxies"]


def faithful() -> DataFrame:
    """Old Faithful geyser, Yellowstone: 272 rows, two clear clusters.

    Columns: ``eruptions`` (length of an eruption, minutes) and ``waiting`` (time to the next one, minutes).

    Source: Azzalini and Bowman (1990), A look at some data on the Old Faithful geyser, Applied Statistics 39, in the
    version of Härdle (1991), which is also R's ``faithful``.
    """
    return _read("faithful.csv")


def galaxies() -> DataFrame:
    """Velocities of 82 galaxies of the Corona Borealis region, ascending: the classic "how many components?".

    Column: ``velocity`` (km/s). The 78th value is 26960, as printed in Roeder (1990), Density estimation with
    confidence sets exemplified by superclusters and voids in the galaxies, JASA 85, Table 1; copies descended from
    R's ``MASS::galaxies`` hold 26690 there, a transposition.
    """
    return _read("galaxies.csv")


def _read(name: str) -> DataFrame:
    with files(__package__).joinpath(name).open(encoding="utf-8") as file:
        return pd.read_csv(file)
