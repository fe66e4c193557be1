"""explore: guides tried live in a notebook."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from ...errors import InputError
from ...models.structure import Model
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows

if TYPE_CHECKING:
    from .explorer import Explorer


def explore(model: Model, x: DataLike, **options: Any) -> Explorer:
    """Choose a guide, its training and the parameters to look at; fit it in the background, and see how far it is off.

    The reference is sampled once. Each fit is one more curve in the picture and one more row of the table; what was
    tried is a `Comparison`, `explorer.comparison`, and the lines of code that give it again, `explorer.code`.

    Parameters
    ----------
    model, x : as `compare` takes them.
    options : of `compare`: reference, x_test, seed, draws and whatever else it has, but no guides.

    Returns
    -------
    Explorer
        Widgets, which the last line of a cell shows. A press while another fit runs waits for it; what fails is one
        line, and leaves all the rest as it is.

    Raises
    ------
    InputError
        Bad data, or ipywidgets is not installed.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> explorer = pyrometer.explore(CorrelatedGaussian(), "faithful", reference=None)
    >>> explorer.guide.value, explorer.comparison  # before the first fit
    ('auto_normal', None)
    """
    try:
        from .explorer import Explorer
    except ImportError as error:
        raise InputError("explore needs ipywidgets: pip install 'pyrometer[notebooks]'") from error
    if "guides" in options:
        raise InputError("explore has no option 'guides': they are chosen as you go")
    _, structure = data_for(on_all_rows(copy.deepcopy(model)), x, options.get("dtype"))
    return Explorer(model, x, structure, options)
