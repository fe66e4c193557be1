"""What is compared: one model on one data set, held-out rows, and the options that every method shares."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ...errors import InputError
from ...models.structure import Model, Structure, model_name
from ..data.as_data import DataLike, data_for
from ..data.as_new_data import as_new_data
from ..data.data import Data, evenly_spaced
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..fit.fit import Fit

SAME = 1e-6  # relative: two densities at one point


@dataclass(frozen=True)
class Problem:
    """A model on its data. test: held-out rows.

    svi, nuts: options of these methods. seed, progress, jobs: of all. rows: which rows, or how many, are held to NUTS
    where every row has latents of its own and shares none.
    """

    model: Model
    data: Data
    structure: Structure
    test: Data | None = None
    svi: dict[str, Any] = field(default_factory=dict)
    nuts: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    progress: bool = True
    jobs: int = 1
    rows: int | Sequence[int] = 20

    @property
    def chosen_rows(self) -> torch.Tensor:
        """The numbers of the rows that are held to NUTS: those given, or so many evenly spaced. Raises InputError."""
        number = self.data.rows or 0
        if isinstance(self.rows, int):
            if not self.rows >= 1:
                raise InputError(f"rows={self.rows} must be 1 or more, or the numbers of the rows")
            return evenly_spaced(number, self.rows)
        chosen = torch.as_tensor(list(self.rows))
        if chosen.numel() == 0 or chosen.is_floating_point() or not ((chosen >= 0) & (chosen < number)).all():
            raise InputError(f"rows must be numbers of rows from 0 to {number - 1}")
        return chosen

    def check(self, fit: Fit, called: str = "fit") -> None:
        """Refuse a fit of other data or of another model, in one line."""
        called, by_row = f"{called} {fit.name}", self.structure.only_local
        both = (self.structure, fit.structure)
        mine, theirs = ({site.name for site in st.of_kind("latent", "param")} for st in both)
        other = f"{called} is of another model than {model_name(self.model)}"
        for name in () if by_row else sorted(mine ^ theirs):
            raise InputError(f"{other}: site {name!r} is in one of them only")
        if not fit.data.equals(self.data):
            shapes = [" ".join(str(tuple(v.shape)) for v in data.tensors) for data in (fit.data, self.data)]
            raise InputError(f"{called} is of other data, {shapes[0]} and not {shapes[1]}: fit it to these first")
        if not by_row and self._differs(fit):
            raise InputError(f"{other}: their densities differ at its draws")

    def _differs(self, fit: Fit) -> bool:
        mine = Density(on_all_rows(self.model), self.data, fit.params)
        with self.data.isolated(0), torch.no_grad():
            for draw in {0, fit.number - 1}:
                sites = {name: value[draw] for name, value in fit.sites().items()}
                here, there = mine.log_joint(sites), fit.density.log_joint(sites)
                if (here - there).abs() > SAME * here.abs().clamp(min=1.0):
                    return True
        return False


def problem_of(
    model: Model, x: DataLike, x_test: DataLike | None, dtype: torch.dtype | None = None, **options: Any
) -> Problem:
    """Everything that can be refused before any work is. Raises InputError."""
    data, structure = data_for(on_all_rows(model), x, dtype)
    test = None if x_test is None else as_new_data(x_test, data, model, name="x_test")
    problem = Problem(model, data, structure, test, **options)
    if structure.only_local:
        _ = problem.chosen_rows  # refused before the work, not after it
    return problem
