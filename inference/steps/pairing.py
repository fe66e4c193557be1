"""Whether a guide fits a model, and which estimator the pair calls for."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

from pyro import infer, poutine
from pyro.distributions import Delta
from pyro.infer import ELBO
from torch.distributions import constraints, kl_divergence

from ...errors import InputError
from ...guides import Guide
from ...guides.auto import is_cut_by_rows, on_every_row
from ...models.gaussians.units import RealVectorIn
from ...models.program import Promoted
from ...models.structure import Model, Site, Structure, model_name, one_line
from ...models.trace import sites_of
from ..data.data import Data
from ..density.batch_size import on_all_rows
from .iwae import IWAE

AUTO: Literal["auto"] = "auto"
ESTIMATORS: dict[str, type[ELBO]] = {
    "Trace": infer.Trace_ELBO,
    "TraceMeanField": infer.TraceMeanField_ELBO,
    "TraceGraph": infer.TraceGraph_ELBO,
    "TraceEnum": infer.TraceEnum_ELBO,
    "Renyi": infer.RenyiELBO,
    "IWAE": IWAE,
}
Sites = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Pairing:
    """A model and a guide that fit, and how to estimate their ELBO.

    point: whether the guide is a point estimate (all of its distributions are Deltas). assigns: whether the guide has a
    q for some discrete site. mixed: whether the guide brings tensors of another precision than the data's.
    """

    model: Model
    guide: Guide
    elbo: ELBO
    point: bool
    assigns: bool
    mixed: bool = False

    @property
    def estimator(self) -> str:
        """The estimator's name: TraceEnum_ELBO, say."""
        return type(self.elbo).__name__

    @property
    def program(self) -> Model:
        """The model, annotated for enumeration where the estimator sums sites out."""
        return infer.config_enumerate(self.model) if isinstance(self.elbo, infer.TraceEnum_ELBO) else self.model

    def on_all_rows(self) -> Pairing:
        """The same pair without minibatches, when it is trained."""
        return replace(self, model=on_all_rows(self.model), guide=on_every_row(on_all_rows(self.guide)))


def pair(model: Model, guide: Guide, name: str, data: Data, structure: Structure, estimator: str | ELBO) -> Pairing:
    """Hold the guide to the model, site by site, and choose the estimator.

    Both run once on the data, which makes the guide's parameters. estimator: auto, a key of ESTIMATORS, or an ELBO of
    Pyro's. Raises InputError naming the site and the mend.
    """
    try:
        with Promoted() as promoted:
            guide_trace = data.run(poutine.trace(guide).get_trace)
    except InputError as error:
        raise InputError(str(error).splitlines()[0]) from error  # Pyro adds pages to it
    except Exception as error:
        raise InputError(f"guide {name} fails on this data: {one_line(error)}") from error
    sites = sites_of(guide_trace)
    _check_sites(model, name, sites, structure)
    auxiliary = any(node["infer"].get("is_auxiliary") for node in sites.values())
    _check_cut(guide, name, structure)
    own = [sites[site.name]["fn"] for site in structure.latent]
    point = bool(own) and not auxiliary and all(isinstance(fn, Delta) for fn in own)
    kinds = {node["value"].dtype for node in sites.values() if node["value"].is_floating_point()}
    mixed = promoted.happened or not kinds <= {data.dtype}
    with Promoted() if mixed else nullcontext():
        elbo = _make(_choose(model, guide_trace, structure, data) if estimator == "auto" else estimator, structure)
    _check_estimator(elbo, name, sites, structure)
    assigns = any(site.name in sites for site in structure.discrete)
    return Pairing(model, guide, elbo, point, assigns, mixed)


def _check_sites(model: Model, name: str, sites: Sites, structure: Structure) -> None:
    """Refuse a guide that misses a site, invents one, or draws what the model cannot take."""
    known = {site.name: site for site in structure.sites}
    drawn = {site.name: site for site in structure.of_kind("latent", "discrete")}
    for site in structure.latent:
        if site.name not in sites:
            mend = f"add pyro.sample({site.name!r}, ...) to the guide"
            raise InputError(f"guide {name} does not sample site {site.name!r} of model {model_name(model)}: {mend}")
    for key, node in sites.items():
        if key in drawn:
            _check_site(name, node, drawn[key])
        elif not node["infer"].get("is_auxiliary"):
            what = f"which is {known[key].kind} in" if key in known else "which is not a site of"
            mend = f"remove it, or give it the name of one of {', '.join(drawn) or 'none'}"
            raise InputError(f"guide {name} samples {key!r}, {what} model {model_name(model)}: {mend}")


def _check_cut(guide: Guide, name: str, structure: Structure) -> None:
    """Refuse minibatches to an AutoGuide that has one vector for the latents of all rows."""
    for site in structure.latent:
        if any(plate.size < plate.full_size for plate in site.plates) and not is_cut_by_rows(guide):
            has = f"guide {name} has one vector for all latents, and a minibatch has those of some rows, {site.name!r}"
            raise InputError(f"{has}: leave batch_size out, or take auto_normal")


def _check_site(name: str, node: dict[str, Any], site: Site) -> None:
    """Refuse a shape, the plates of a discrete site, or values that the model's site has not."""
    value, fn, support = node["value"], node["fn"], site.support
    if value.shape != site.shape and not node["infer"].get("enumerate"):
        shapes = f"{tuple(value.shape)} in guide {name} and {tuple(site.shape)} in the model"
        raise InputError(f"site {site.name!r} has shape {shapes}: make the guide's the model's")
    if site.kind == "discrete":
        wanted = {plate.name for plate in site.plates}
        if {frame.name for frame in node["cond_indep_stack"] if frame.vectorized} != wanted:
            mend = " and ".join(f"pyro.plate({plate!r}, ...)" for plate in sorted(wanted)) or "no plate"
            other = f"guide {name} draws site {site.name!r} under other plates than the model"
            raise InputError(f"{other}: sample it under {mend}")
        value = fn.enumerate_support(expand=False) if fn.has_enumerate_support else value
        free, mend = False, "give it as many values as the model's distribution has"
    else:
        free = fn.support in (constraints.real, constraints.real_vector) and not _is_real(support)
        mend = "choose a distribution with that support, or transform one to it"
    if support is not None and (free or not support.check(value).all()):
        raise InputError(f"guide {name} draws site {site.name!r} outside its support, {support}: {mend}")


def _is_real(support: Any) -> bool:
    """Whether a support is that of all real numbers, vectors or arrays."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support in (constraints.real, constraints.real_vector) or isinstance(support, RealVectorIn)


def _choose(model: Model, guide_trace: poutine.Trace, structure: Structure, data: Data) -> str:
    """The estimator that the treatment of the discrete sites calls for."""
    sites = sites_of(guide_trace)
    if not structure.discrete:
        return "TraceMeanField" if _closed_form(model, guide_trace, structure, data) else "Trace"
    sampled = [site.name in sites and not sites[site.name]["infer"].get("enumerate") for site in structure.discrete]
    return "TraceGraph" if all(sampled) else "TraceEnum"


def _closed_form(model: Model, guide_trace: poutine.Trace, structure: Structure, data: Data) -> bool:
    """Whether the KL divergence of every site is known, and the sites come in one order in model and guide."""
    q, names = sites_of(guide_trace), [site.name for site in structure.latent]
    if list(q) != names:
        return False
    p = sites_of(data.run(poutine.trace(poutine.replay(model, trace=guide_trace)).get_trace))
    try:
        for name in names:
            kl_divergence(q[name]["fn"], p[name]["fn"])
    except NotImplementedError:
        return False
    return not any(isinstance(q[name]["fn"], Delta) for name in names)


def check_estimator(estimator: str) -> str:
    """The key of ESTIMATORS that an estimator is called by, or auto. Raises InputError where there is none."""
    name = str(estimator).removesuffix("ELBO").removesuffix("_")
    if name not in (AUTO, *ESTIMATORS):
        known = f"{AUTO}, {', '.join(ESTIMATORS)}, or an ELBO of Pyro's"
        raise InputError(f"estimator={estimator!r} is unknown: choose {known}")
    return name


def _make(estimator: str | ELBO, structure: Structure) -> ELBO:
    """A fresh estimator of that name; an ELBO as it is."""
    if isinstance(estimator, ELBO):
        return estimator
    name, nesting = check_estimator(estimator), structure.max_plate_nesting
    if name == "IWAE" and structure.shared:  # one weight for all rows together
        return infer.RenyiELBO(alpha=0, num_particles=5, max_plate_nesting=nesting)
    options = {"num_particles": 10} if name == "Renyi" else {}
    return ESTIMATORS[name](max_plate_nesting=nesting, **options)


def _check_estimator(elbo: ELBO, name: str, sites: Sites, structure: Structure) -> None:
    """Refuse an estimator that would be wrong for this pair without saying so."""
    kind = type(elbo).__name__
    if isinstance(elbo, infer.RenyiELBO) and structure.subsampled:
        raise InputError("RenyiELBO is biased under minibatches: leave batch_size out, or choose another estimator")
    if isinstance(elbo, IWAE):
        _check_local(name, sites, structure)
    if isinstance(elbo, infer.TraceEnum_ELBO):
        return
    for site in structure.discrete:
        if site.name not in sites or sites[site.name]["infer"].get("enumerate"):
            left = f"site {site.name!r}, which guide {name} leaves to the estimator"
            raise InputError(f"{kind} cannot sum out {left}: choose TraceEnum, or sample the site in the guide")
    if isinstance(elbo, infer.TraceMeanField_ELBO | infer.RenyiELBO | IWAE) and structure.discrete:
        first = structure.discrete[0].name
        raise InputError(f"{kind} needs reparameterised sites, and {first!r} is discrete: choose TraceGraph")


def _check_local(name: str, sites: Sites, structure: Structure) -> None:
    """Refuse the importance-weighted bound where the rows do not each have latent sites of their own, and no others."""
    plates = [(key, [frame.name for frame in node["cond_indep_stack"]]) for key, node in sites.items()]
    plates += [(site.name, [plate.name for plate in site.plates]) for site in structure.latent]
    for key, names in plates:
        if names != [structure.rows.name if structure.rows else ""]:
            mend = "choose Trace, or Renyi without minibatches"
            raise InputError(f"IWAE weighs rows one by one, and guide {name} draws {key!r} for several: {mend}")
