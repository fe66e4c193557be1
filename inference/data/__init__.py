"""The data's door: what a user hands in becomes `Data`, once."""

from .data import Data
from .door import DataLike, as_data
from .new_data import as_new_data

__all__ = ["Data", "DataLike", "as_data", "as_new_data"]
