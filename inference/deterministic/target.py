"""The log density and its gradient at many points of unconstrained space: what every deterministic method asks for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...errors import InputError
from ...models.structure import model_name, one_line
from ..compilation.compiled import Compile, tiers_for, value_and_gradient
from ..compilation.native import Native
from ..density.log_density import Density
from ..density.start import start_of

ValueAndGradient = Callable[[Tensor], Sequence[Tensor]]
MAX_SHRINKINGS = 5  # of a step that leaves the support, each to a hundredth


@dataclass(frozen=True)
class Target:
    """log p(x, theta) with respect to the flat unconstrained vector, discrete sites summed out, and its gradient.

    both: a point (dim,) -> value (), gradient (dim,). compiled: what runs it, see `value_and_gradient`. To be called
    within `isolated`.
    """

    density: Density
    both: ValueAndGradient
    compiled: str = ""

    @property
    def dim(self) -> int:
        """The length of a point."""
        return self.density.dim

    @property
    def step(self) -> float:
        """That of a central difference, in units of the scale on which a gradient changes."""
        return float(torch.finfo(self.density.data.dtype).eps ** 0.25)

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (S,) and gradients (S, dim) at points (S, dim); -inf and zeros where either is not finite."""
        at = torch.as_tensor(points).to(self.density.data.like)
        if isinstance(self.both, Native):
            found: Sequence[Tensor] = self.both.many(at)
        else:
            pairs = [self.both(point) for point in at]
            found = [torch.stack([torch.as_tensor(pair[part]) for pair in pairs]) for part in (0, 1)]
        values, gradients = (part.detach().cpu().double().numpy() for part in found)
        broken = ~(np.isfinite(values) & np.isfinite(gradients).all(1))
        return np.where(broken, -np.inf, values), np.where(broken[:, None], 0.0, gradients)

    def at(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient (dim,) at one point (dim,), as above."""
        (value,), (gradient,) = self(point[None])
        return value, gradient

    def starts(self, seed: int, number: int = 1) -> list[np.ndarray]:
        """Up to so many points (dim,) of finite density and gradient: of this seed and the next. At least one.

        Raises InputError where there is none.
        """
        points = np.stack([start_of(self.density, seed + n).double().cpu().numpy() for n in range(number)])
        sound = np.isfinite(self(points)[0])
        if not sound.any():
            what = f"model {model_name(self.density.model)} has no finite gradient where it starts"
            raise InputError(
                f"{what}: check the priors against the data's scale, or give the model another init(x, seed)"
            )
        return [*points[sound]]

    def curvature(self, points: np.ndarray, scales: np.ndarray) -> Iterator[np.ndarray]:
        """Minus the Hessian at points (S, dim), column by column, each (S, dim); NaN where it has none.

        By central differences of gradients, a small step of each coordinate's own scale (dim,) to either side.
        """
        for place, width in enumerate(self.step * scales):
            yield self._column(points, place, width)

    def _column(self, points: np.ndarray, place: int, width: float) -> np.ndarray:
        for _ in range(MAX_SHRINKINGS):
            ends = np.stack([points, points])
            ends[0, :, place] -= width
            ends[1, :, place] += width
            values, gradients = self(ends.reshape(-1, self.dim))
            if np.isfinite(values).all():
                break
            width /= 100
        low, high = gradients.reshape(ends.shape)
        between = (ends[1] - ends[0])[:, place, None]
        sound = np.isfinite(values).reshape(2, -1, 1).all(0)
        return np.where(sound, (low - high) / between, np.nan)


def target_of(density: Density, seed: int, calls: int, compile: Compile = "auto") -> Target:
    """The target of a density, made fast for about so many calls; to be called within `isolated`.

    Raises InputError where the density is finite nowhere that was tried, or discrete sites cannot be summed out.
    """
    try:
        start = start_of(density, seed)
    except InputError:
        raise
    except Exception as error:
        discrete = ", ".join(site.name for site in density.structure.discrete)
        if not discrete:
            raise
        what = f"the discrete sites {discrete} of model {model_name(density.model)} cannot be summed out"
        raise InputError(f"{what} ({one_line(error)}): take svi, with a guide that draws them") from error
    tiers = tiers_for(compile, calls, density.data.numel)
    return Target(density, *value_and_gradient(density.of_data("log_density"), start, start + 0.1, tiers=tiers))
