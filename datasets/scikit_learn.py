"""scikit-learn's small tables: the features only, under scikit-learn's own names.

scikit-learn is imported inside each function: it takes a second, and most runs need none of them.
"""

from pandas import DataFrame

from ..imports import undrawn

__all__ = ["digits", "iris", "wine"]


def digits() -> DataFrame:
    """Handwritten digits, 8 by 8 pixels: 1797 rows, 64 columns ``pixel_row_column``, grey levels 0 to 16, not scaled.

    Three pixels are 0 in every image, so the columns that hold them are constant.
    """
    with undrawn():
        from sklearn.datasets import load_digits

    return load_digits(as_frame=True).data


def iris() -> DataFrame:
    """Fisher's irises: 150 rows, four lengths and widths of petal and sepal in cm, three species."""
    with undrawn():
        from sklearn.datasets import load_iris

    return load_iris(as_frame=True).data


def wine() -> DataFrame:
    """Chemical analyses of Italian wines: 178 rows, 13 measurements on very different scales, three cultivars."""
    with undrawn():
        from sklearn.datasets import load_wine

    return load_wine(as_frame=True).data
