"""Progress bars: in a terminal, or a notebook that has ipywidgets; silent anywhere else."""

import warnings

from tqdm import TqdmWarning, std

with warnings.catch_warnings():
    warnings.simplefilter("ignore", TqdmWarning)  # a notebook without widgets is no fault of the user's
    from tqdm.auto import tqdm


def progress_bar(total: int, what: str, show: bool, unit: str = "step") -> std.tqdm:
    """A bar over `total` units, to be used as a context manager. show: False is silent."""
    notebook = any(base.__module__ == "tqdm.notebook" for base in tqdm.__mro__)
    return tqdm(total=total, desc=what, unit=unit, leave=False, disable=not show or (False if notebook else None))
