"""Pyro's AutoGuides for any model: discrete sites hidden by looking at its trace, started where the model starts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import autoguide
from pyro.infer.autoguide.initialization import InitMessenger
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import AffineTransform, ComposeTransform

from ..models.program import is_flat
from ..models.structure import Model, Plate
from ..models.trace import read_structure

__all__ = ["AUTO", "Continuous", "auto", "is_cut_by_rows", "on_every_row", "start_at"]


@dataclass
class Continuous:
    """A model's continuous latent sites and nothing else: what an AutoGuide should see.

    Observed sites are hidden too: an AutoGuide would otherwise enter their plates at full size and so override the
    rows that a model with minibatches picks for itself.
    """

    model: Model
    names: frozenset[str] | None = field(default=None, init=False)
    plates: tuple[Plate, ...] = field(default=(), init=False)
    whole: bool = field(default=False, init=False)
    start: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Run the model with all but its continuous latent sites hidden; the first run finds which these are."""
        if self.names is None:
            latent = read_structure(self.model, *args, **kwargs).latent
            self.names = frozenset(site.name for site in latent)
            self.plates = tuple({plate.name: plate for site in latent for plate in site.plates}.values())
            init = getattr(self.model, "init", None)
            self.start = init(*args, **kwargs) if init else {}
        with poutine.block(expose=list(self.names)):
            self.model(*args, **kwargs)

    def init_loc(self, site: dict[str, Any]) -> Tensor:
        """The model's own start where it has one; else the prior's median, or of a flat prior the origin."""
        if site["name"] in self.start:
            return self.start[site["name"]]
        if is_flat(site["fn"]):
            transform = biject_to(site["fn"].support)
            return transform(torch.zeros(transform.inverse_shape(site["fn"].shape())))
        return autoguide.init_to_median(site)

    def create_plates(self, *args: Any, **kwargs: Any) -> list[pyro.plate]:
        """The plates of the latent sites as the model has them, subsampled where they are not to be whole."""
        if self.names is None:
            with poutine.block():
                self(*args, **kwargs)
        sizes = [(p, p.full_size if self.whole else p.size) for p in self.plates]
        return [pyro.plate(p.name, p.full_size, subsample_size=size, dim=p.dim) for p, size in sizes]


class StartedIAF(autoguide.AutoIAFNormal):
    """AutoIAFNormal around the model's start: Pyro's own begins at a standard normal and ignores `init_loc_fn`."""

    def __init__(self, model: Continuous, init_loc_fn: Callable[..., Tensor], init_scale: float = 0.1) -> None:
        super().__init__(InitMessenger(init_loc_fn)(model))
        self.init_scale: float | Tensor = init_scale
        self.start: Tensor | None = None

    def get_transform(self, *args: Any, **kwargs: Any) -> ComposeTransform:
        """The flow, then a shift to the start."""
        start = self._init_loc() if self.start is None else self.start
        shift = AffineTransform(start, self.init_scale, event_dim=1, cache_size=1)
        return ComposeTransform([self.transform, shift])  # cached: the flow would be inverted entry by entry


def auto(kind: type[autoguide.AutoGuide], **options: Any) -> Callable[[Model], autoguide.AutoGuide]:
    """A guide factory for one of Pyro's AutoGuides.

    kind: a class of `pyro.infer.autoguide`. options: its own, init_scale or rank for example.
    """

    def factory(model: Model) -> autoguide.AutoGuide:
        seen = Continuous(model)
        guide = kind(seen, init_loc_fn=seen.init_loc, **options)
        guide.create_plates = seen.create_plates
        return guide

    pyro_kind = next(base for base in kind.__mro__ if base.__module__.startswith("pyro."))
    factory.__doc__ = f"pyro.infer.autoguide.{pyro_kind.__name__}"
    return factory


AUTO: dict[str, Callable[[Model], autoguide.AutoGuide]] = {
    "auto_delta": auto(autoguide.AutoDelta),
    "auto_normal": auto(autoguide.AutoNormal),
    "auto_diagonal_normal": auto(autoguide.AutoDiagonalNormal),
    "auto_mvn": auto(autoguide.AutoMultivariateNormal),
    "auto_low_rank": auto(autoguide.AutoLowRankMultivariateNormal),
    "auto_laplace": auto(autoguide.AutoLaplaceApproximation),
    "auto_iaf": auto(StartedIAF),
    "auto_structured": auto(autoguide.AutoStructured),
}


def is_cut_by_rows(guide: object) -> bool:
    """Whether an AutoGuide has its parameters a site, so that a minibatch moves those of its own rows alone."""
    by_site = (autoguide.AutoNormal, autoguide.AutoDelta, autoguide.AutoGuideList)
    return isinstance(guide, by_site) or not isinstance(guide, autoguide.AutoGuide)


def on_every_row(guide: Callable[..., Any]) -> Callable[..., Any]:
    """A trained guide, which as an AutoGuide enters its plates at their full size from now on."""
    seen = getattr(getattr(guide, "create_plates", None), "__self__", None)
    if isinstance(seen, Continuous):
        seen.whole = True
    return guide


def start_at(guide: Callable[..., Any], loc: Mapping[str, Tensor], precision: Tensor) -> dict[str, Tensor]:
    """Put an AutoGuide at a Gaussian in unconstrained space, and give the units of its locations, by name in the store.

    loc: of each site. precision: of all end to end, in that order, (dim, dim). Of a guide of another kind nothing
    is changed, and nothing given back. The scales are those of the guide's family that is nearest in KL(q | p).
    """
    if isinstance(guide, autoguide.AutoNormal):
        apart = precision.diagonal().rsqrt().split([value.numel() for value in loc.values()])
        scales = {name: scale.reshape(value.shape) for scale, (name, value) in zip(apart, loc.items(), strict=True)}
        for name in loc:
            _set(guide.locs, name, loc[name])
            _set(guide.scales, name, scales[name])
        return {f"{guide._pyro_name}.locs.{name}": scale for name, scale in scales.items()}
    if not isinstance(guide, autoguide.AutoContinuous):
        return {}
    wanted, place, start = [name for name, _ in guide.prototype_trace.iter_stochastic_nodes()], dict[str, Tensor](), 0
    for name, value in loc.items():
        place[name] = torch.arange(start, start := start + value.numel())
    order = torch.cat([place[name] for name in wanted])
    flat, precision = torch.cat([loc[name].reshape(-1) for name in wanted]), precision[order][:, order]
    factor, apart = torch.linalg.cholesky(torch.linalg.inv(precision)), precision.diagonal().rsqrt()
    if isinstance(guide, StartedIAF):
        guide.start, guide.init_scale = flat, apart
        return {}
    _set(guide, "loc", flat)
    if isinstance(guide, autoguide.AutoMultivariateNormal):
        _set(guide, "scale", factor.diagonal())
        _set(guide, "scale_tril", factor / factor.diagonal().unsqueeze(-1))
    elif not isinstance(guide, autoguide.AutoLaplaceApproximation):
        _set(guide, "scale", apart)
    return {f"{guide._pyro_name}.loc": factor}


def _set(module: Any, name: str, value: Tensor) -> None:
    """Give a parameter of a module a value, in place; dots lead to modules within."""
    *path, last = name.split(".")
    for part in path:
        module = getattr(module, part)
    old = getattr(module, last)
    if isinstance(old, torch.nn.Parameter):
        old.data.copy_(value)
    else:
        setattr(module, last, value.reshape(old.shape).to(old.dtype))
