"""The widgets: what is tried next, how far it is, the picture, the table and the code."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Mapping, Sequence
from threading import RLock
from typing import Any

import ipywidgets as widgets
from matplotlib import rc_context
from matplotlib.figure import Figure

from ...errors import InputError
from ...guides import WORDS, catalogue, defaults
from ...models.structure import Model, Structure, one_line
from ..compare.comparison import Comparison
from ..data.as_data import DataLike
from ..plots.drawing.compared import compared
from ..plots.drawing.figure import STYLE
from ..plots.parameters import chosen
from ..plots.posterior import plot_densities
from .exploration import Exploration
from .trial import AUTO, Trial, lr_of, steps_of

SHOWN, COLUMNS = 6, 3  # scalars in the picture, at most, and side by side
PANEL, LEGEND = (3.2, 2.2), 0.5  # inches
WIDE = {"width": "60em"}
CLOSE = '<div style="line-height: 1.4">{}</div>'  # lines stand as in text, not as widgets do


class Explorer:
    """What `pyrometer.explore` shows: it displays itself as the last line of a cell.

    Attributes
    ----------
    comparison : the Comparison so far; None before the first fit.
    code : the lines that give it again, of the `model` and `x` that were explored.
    guide, steps, lr, seed, variables, fit : the widgets that choose, and the button.
    bar, status, picture, table, lines : the widgets that show.
    widget : all of them together.
    """

    def __init__(self, model: Model, x: DataLike, structure: Structure, options: Mapping[str, Any]) -> None:
        self._drawing, self._base_seed = RLock(), int(options.get("seed", 0))
        self._make_choices(model, structure)
        self.bar = widgets.IntProgress(0, min=0, max=1, layout=WIDE)
        self.status = widgets.HTML("choose a guide, and press Fit")
        self.picture = widgets.Image(format="png", layout={"display": "none"})
        self.table, self.lines = widgets.HTML(layout={"overflow": "auto"}), widgets.HTML()
        parameters = [self.variables] if self.variables.options else []
        choices = [self.guide, self.steps, self.lr, self.seed, *parameters, self.fit]
        self.widget = widgets.VBox([*choices, self.bar, self.status, self.picture, self.table, self.lines])
        self._exploration = Exploration(model, x, options, self)
        self.fit.on_click(lambda _: self._asked())
        self.variables.observe(lambda _: self._draw(), names="value")
        if options.get("reference", "nuts") is not None and not structure.only_local:
            self._exploration.sample_reference()
        self._show_code()

    def _make_choices(self, model: Model, structure: Structure) -> None:
        """What is to be fitted, and how, and what is looked at."""
        known = catalogue(model)
        guides = [(f"{name}: {WORDS[name]}", name) for name in known]
        first = next(iter([name for name in defaults(model) if name in known] or known))
        made = [site for site in structure.of_kind("deterministic") if not structure.by_row(site)]
        names = [site.name for site in (*structure.shared, *made)] if structure.shared else []
        says = {"style": {"description_width": "7em"}, "layout": WIDE}
        self.guide = widgets.Dropdown(options=guides, value=first, description="guide", **says)
        self.steps = widgets.Text(AUTO, description="steps", **says)
        self.lr = widgets.Text(AUTO, description="learning rate", **says)
        self.seed = widgets.BoundedIntText(self._base_seed, min=0, max=2**32 - 1, description="seed", **says)
        size = min(max(len(names), 1), 6)
        self.variables = widgets.SelectMultiple(options=names, value=names, rows=size, description="parameters", **says)
        self.fit = widgets.Button(description="Fit", button_style="primary")

    @property
    def comparison(self) -> Comparison | None:
        """What was fitted so far."""
        return self._exploration.comparison

    @property
    def code(self) -> str:
        """The lines that give the same comparison."""
        return self._exploration.code

    def wait(self) -> Explorer:
        """This, once all is done that was asked for."""
        self._exploration.wait()
        return self

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.widget._repr_mimebundle_(**kwargs)

    def _asked(self) -> None:
        """The button was pressed."""
        try:
            seed = None if self.seed.value == self._base_seed else self.seed.value
            trial = Trial(self.guide.value, steps_of(self.steps.value), lr_of(self.lr.value), seed)
            self._exploration.ask(trial)
        except InputError as error:
            self._say(str(error))
            return
        before = self._exploration.waiting - 1
        if before > 0:
            self._say(f"{trial.name} waits for {before} before it")

    def began(self, what: str) -> None:
        """Say what is under way."""
        self.bar.value, self.bar.bar_style = 0, "info"
        self._say(f"{what}: under way")

    def progressed(self, what: str, done: int, total: int) -> None:
        """Move the bar."""
        self.bar.max, self.bar.value = max(total, 1), done
        self._say(f"{what}: {done} of {total}")

    def ended(self, what: str) -> None:
        """Show the comparison as it is now."""
        if self.comparison is not None:
            self.table.value = CLOSE.format(self.comparison._repr_html_())
        self._show_code()
        self.bar.value, self.bar.bar_style = self.bar.max, "success"
        self._say(f"{what}: done")
        self._draw()

    def failed(self, what: str, why: str) -> None:
        """Say why; what is shown stays."""
        self.bar.bar_style = "danger"
        self._show_code()
        self._say(f"{what}: {why}")

    def _say(self, text: str) -> None:
        self.status.value = html.escape(text, quote=False)

    def _show_code(self) -> None:
        self.lines.value = CLOSE.format(
            f"<pre style='font-family: monospace'>{html.escape(self.code, quote=False)}</pre>"
        )

    def _draw(self) -> None:
        """The picture of the chosen parameters, or a line that says why there is none."""
        if self.comparison is None:
            return
        with self._drawing:
            try:
                every = len(self.variables.value) in (0, len(self.variables.options))
                figure = picture(self.comparison, None if every else self.variables.value)
                self.picture.value = _png(figure)
                self.picture.layout = {"width": f"{100 * figure.get_figwidth():.0f}px", "max_width": "100%"}
            except Exception as error:
                self._say(f"no picture: {error if isinstance(error, InputError) else one_line(error)}")


def picture(comparison: Comparison, variables: Sequence[str] | None) -> Figure:
    """The density of these variables, or of all, by fit over the reference's; where rows share none, all pictures."""
    if not comparison.problem.structure.shared:
        return comparison.plot()
    names = None if variables is None else list(variables)
    number = len(chosen(compared(comparison), names, SHOWN))
    size = (PANEL[0] * min(number, COLUMNS), PANEL[1] * math.ceil(number / COLUMNS) + LEGEND)
    with rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")  # not pyplot's, which would open a window from this thread
        plot_densities(comparison, names, SHOWN, ax=figure.subplots())
        for inside in filter(None, [axis.get_legend() for axis in figure.axes]):  # which more fits would overflow
            texts = [text.get_text() for text in inside.get_texts()]
            handles = [handle for handle in inside.legend_handles if handle is not None]
            figure.legend(handles, texts, loc="outside lower center", ncols=min(number, COLUMNS))
            inside.remove()
    return figure


def _png(figure: Figure) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=150)
    return stream.getvalue()
