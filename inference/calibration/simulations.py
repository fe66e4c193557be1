"""Truths drawn from a model's prior, and data drawn at them in the shape of a template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor

from ...errors import InputError
from ...models.structure import Model, Site, Structure, model_name, one_line
from ..data.data import Data
from ..density.log_density import Density
from ..fit.predictive import drawn_from_prior

SAME = 1e-6  # relative: two densities at one value
Sites = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Simulations:
    """S draws of theta from the prior, and data sets drawn at them.

    model, template: the program, and its arguments before any was replaced. truths: of the continuous latent sites,
    name -> (S, ...). observed: what takes the place of an argument, name -> (S, ...). numbers, seeds: of each
    simulation, (S,).
    """

    model: Model
    template: Data
    truths: dict[str, Tensor]
    observed: dict[str, Tensor]
    numbers: np.ndarray
    seeds: np.ndarray

    def __len__(self) -> int:
        return len(self.numbers)

    def data(self, place: int) -> Data:
        """The data set at that place."""
        return with_arguments(self.template, {name: value[place] for name, value in self.observed.items()})

    def take(self, places: slice) -> Simulations:
        """Some of them."""
        cut = lambda values: {name: value[places].clone() for name, value in values.items()}  # noqa: E731
        numbers, seeds = self.numbers[places], self.seeds[places]
        return replace(self, truths=cut(self.truths), observed=cut(self.observed), numbers=numbers, seeds=seeds)


def simulated(model: Model, template: Data, structure: Structure, number: int, seed: int) -> Simulations:
    """So many simulations of a model on data of that template; its observed values are replaced, all else is kept.

    Where the template misses a value (NaN), so do the simulations. Raises InputError for a model that cannot be drawn
    from, whose prior is read from what it observes, or that observes what it also takes for covariates.
    """
    _refuse_undrawable(model, structure)
    density = Density(model, template)
    try:
        drawn = drawn_from_prior(density, number, seed)
    except NotImplementedError as error:
        raise InputError(f"model {model_name(model)} cannot be drawn from: {one_line(error)}") from error
    truths = {site.name: drawn[site.name].detach() for site in structure.latent}
    values = {site.name: drawn[site.name].detach() for site in structure.observed}
    first = {name: value[0] for name, value in truths.items()}
    places = _places(density, first, {name: value[0] for name, value in values.items()})
    observed = {key: _shaped(template.named[key], values[site]) for site, key in places.items()}
    made = Simulations(model, template, truths, observed, np.arange(number), _seeds(seed, number))
    _refuse_read_from_data(density, replace(density, data=made.data(0)), first, places)
    return made


def with_arguments(data: Data, values: Mapping[str, Tensor]) -> Data:
    """The same data with some of its arguments replaced, by their names."""
    named = {**data.named, **values}
    args = tuple(named[name] for name in list(data.named)[: len(data.args)])
    return replace(data, args=args, kwargs={name: named[name] for name in data.kwargs})


def _refuse_undrawable(model: Model, structure: Structure) -> None:
    """Raise InputError where there is no prior to draw all of theta from, or no distribution of what is observed."""
    name, params = model_name(model), structure.of_kind("param")
    if not structure.latent:
        why = f"{params[0].name!r} is a parameter without a prior" if params else "it has no continuous latent site"
        raise InputError(f"model {name} has no posterior to calibrate ({why}): give it a latent site with a prior")
    if params:
        mend = "freeze it, or give it a prior"
        raise InputError(f"param {params[0].name!r} of model {name} has no prior to be drawn from: {mend}")
    for site in structure.of_kind("factor"):
        raise InputError(f"site {site.name!r} is a factor, which cannot be drawn from: give it as a distribution")


def _seeds(seed: int, number: int) -> np.ndarray:
    """A seed for each simulation, of 31 bits, whatever starts from it: (S,)."""
    return np.random.SeedSequence(seed).generate_state(number) >> 1


def _shaped(argument: Tensor, values: Tensor) -> Tensor:
    """Draws (S, ...) in the shape and dtype of the argument that they replace; what it misses they miss."""
    values = values.reshape(len(values), *argument.shape).to(argument.dtype)
    return torch.where(argument.isnan(), argument, values) if argument.is_floating_point() else values


def _places(density: Density, truth: Sites, values: Sites) -> dict[str, str]:
    """For each observed site the argument that it observes: the one that, replaced, is what the site then has."""
    places: dict[str, str] = {}
    for site in density.structure.observed:
        value, named = values[site.name], density.data.named
        fitting = [key for key, a in named.items() if isinstance(a, Tensor) and a.numel() == value.numel()]
        found = [key for key in fitting if key not in places.values() and _observes(density, truth, site, value, key)]
        if not found:
            whole = "hand over what it observes as an argument of its own, as it is"
            raise InputError(
                f"site {site.name!r} observes no argument of {model_name(density.model)} as a whole: {whole}"
            )
        places[site.name] = found[0]
    return places


def _observes(density: Density, truth: Sites, site: Site, value: Tensor, key: str) -> bool:
    """Whether a site's value is that one where it is put in the place of an argument."""
    argument = _shaped(density.data.named[key], value.unsqueeze(0))[0]
    try:
        trace = _trace(replace(density, data=with_arguments(density.data, {key: argument})), truth)
    except Exception:  # a model that fails with it takes it for something else
        return False
    seen, known = trace.nodes[site.name]["value"], ~argument.isnan().reshape(value.shape)
    return seen.shape == value.shape and torch.allclose(seen[known].to(value), value[known], rtol=1e-5)


def _trace(density: Density, truth: Sites) -> poutine.Trace:
    """The model run at that truth, all that is random besides as it was before."""
    with density.data.isolated(0), torch.no_grad():
        return density.data.run(poutine.trace(density.given(truth)).get_trace)


def _refuse_read_from_data(density: Density, other: Density, truth: Sites, places: Mapping[str, str]) -> None:
    """Raise InputError where what is observed bears on more than the likelihood of itself, or weighs more than once."""
    before, after = _trace(density, truth), _trace(other, truth)
    log_prob = lambda trace, site, value: trace.nodes[site.name]["fn"].log_prob(value).nan_to_num()  # noqa: E731
    close = partial(torch.allclose, rtol=SAME, atol=SAME)
    for site in density.structure.latent:
        if not close(*(log_prob(trace, site, truth[site.name]) for trace in (before, after))):
            why = "is read from what is observed, which every simulation draws anew"
            raise InputError(f"the prior of site {site.name!r} {why}: give the model a prior of its own, in numbers")
    for site in density.structure.observed:
        node: dict[str, Any] = after.nodes[site.name]
        if not close(*(log_prob(trace, site, node["value"]) for trace in (before, after))):
            what = f"argument {places[site.name]!r} is not only observed, site {site.name!r} depends on it besides"
            raise InputError(f"{what}: hand over what it depends on as an argument of its own")
        if torch.as_tensor(node["scale"]).ne(1).any():
            raise InputError(f"site {site.name!r} is scaled, so that its data cannot be drawn: take the scale away")
