"""One log density per model and data, discrete sites summed out: what NUTS, k-hat and the scores share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyro.ops.contract import einsum
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.transforms import Transform

from ..errors import InputError
from ..models.structure import Model, Structure, model_name, read_structure, sites_of
from .given_params import with_params

__all__ = ["Density", "Sites"]

Sites = Mapping[str, Tensor]
LOG_EINSUM = "pyro.ops.einsum.torch_log"


@dataclass(frozen=True)
class Density:
    """log p(x, theta) of a Pyro model, its discrete sites summed out exactly.

    theta is given as constrained sites, name -> Tensor, or as one flat unconstrained vector. Params of the model take
    the value among the sites, else the one in `params`, else that of Pyro's store.
    """

    model: Model
    x: Tensor
    params: Sites = field(default_factory=dict)

    @cached_property
    def structure(self) -> Structure:
        """The sites of the model on this data."""
        return read_structure(self.model, self.x)

    @cached_property
    def transforms(self) -> dict[str, Transform]:
        """For each latent site the bijection from unconstrained space."""
        return {site.name: _bijection(self.model, site.name, site.support) for site in self.structure.latent}

    @cached_property
    def collapsed(self) -> Model | None:
        """The model with its discrete sites summed out by hand, where it offers that."""
        offer = getattr(self.model, "collapsed", None)
        return offer() if offer else None

    def log_joint(self, sites: Sites) -> Tensor:
        """log p(x, theta) in nats, with respect to the constrained sites: ()."""
        if self.collapsed is not None:
            trace = poutine.trace(self._given(sites, self.collapsed)).get_trace(self.x)
            return trace.log_prob_sum(lambda _, node: not node["infer"].get("_deterministic"))
        trace = self._trace(sites, self.x)
        evaluator = TraceEinsumEvaluator(trace, bool(self.structure.discrete), self.structure.max_plate_nesting)
        return evaluator.log_prob(trace)

    def log_likelihood(self, sites: Sites, x: Tensor | None = None) -> Tensor:
        """log p(x_n | theta) of each row of x (the data's own by default), in nats: (N,)."""
        return _contract_rows(self._trace(sites, self.x if x is None else x, self.collapsed))

    def assignment_logits(self, sites: Sites, x: Tensor | None = None, site: str | None = None) -> Tensor:
        """log p(x_n, z_n = k | theta) of one discrete site, any others summed out: (N, K)."""
        names = [s.name for s in self.structure.labels]
        if not names or (site is not None and site not in names):
            what = f"no discrete site{f' {site!r}' if site else ''} with one value a row"
            raise InputError(f"model {model_name(self.model)} has {what}: there is nothing to assign rows to")
        trace = self._trace(sites, self.x if x is None else x)
        return _contract_rows(trace, site or names[0])

    @property
    def dim(self) -> int:
        """The length of the flat unconstrained vector."""
        return sum(self.transforms[site.name].inverse_shape(site.shape).numel() for site in self.structure.latent)

    def constrain(self, flat: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Constrained sites at a flat unconstrained vector (dim,), and the log Jacobian, ()."""
        sites, log_jacobian, start = {}, flat.new_zeros(()), 0
        for site in self.structure.latent:
            transform = self.transforms[site.name]
            shape = transform.inverse_shape(site.shape)
            value = flat[start : start + shape.numel()].reshape(shape)
            start += shape.numel()
            sites[site.name] = transform(value)
            log_jacobian = log_jacobian + transform.log_abs_det_jacobian(value, sites[site.name]).sum()
        return sites, log_jacobian

    def unconstrain(self, sites: Sites) -> Tensor:
        """The flat unconstrained vector (dim,) of constrained sites."""
        return torch.cat(
            [self.transforms[site.name].inv(sites[site.name]).reshape(-1) for site in self.structure.latent]
        )

    def log_density(self, flat: Tensor) -> Tensor:
        """log p(x, theta) with respect to the flat unconstrained vector: ()."""
        sites, log_jacobian = self.constrain(flat)
        return self.log_joint(sites) + log_jacobian

    def deterministic(self, sites: Sites) -> dict[str, Tensor]:
        """The model's deterministic sites at theta: name -> Tensor."""
        trace = poutine.trace(self._given(sites)).get_trace(self.x)
        return {site.name: trace.nodes[site.name]["value"] for site in self.structure.of_kind("deterministic")}

    def new_row(self, sites: Sites) -> Tensor:
        """One row drawn anew at theta: the shape of one row."""
        observed = self.structure.of_kind("observed")[0].name
        trace = poutine.trace(self._given(sites, poutine.uncondition(self.model))).get_trace(self.x[:1])
        return trace.nodes[observed]["value"][0]

    def chunk(self, rows: int) -> int:
        """How many draws to take at once so that the largest tensor stays near 100 MB."""
        components = self.structure.plates.get("components")
        width = (components.size if components else 2) * self.x[:1].numel()
        return max(1, 12_000_000 // (rows * width))

    def _given(self, sites: Sites, model: Model | None = None) -> Model:
        """The model with its latent sites and params set."""
        sites = dict(sites)
        return with_params(poutine.condition(model or self.model, data=sites), {**self.params, **sites})

    def _trace(self, sites: Sites, x: Tensor, model: Model | None = None) -> poutine.Trace:
        model = poutine.enum(
            config_enumerate(self._given(sites, model)), first_available_dim=-1 - self.structure.max_plate_nesting
        )
        return poutine.trace(model).get_trace(x)


def _contract_rows(trace: poutine.Trace, keep: str | None = None) -> Tensor:
    """Sum the discrete sites out of everything under the `data` plate, row by row: (N,), or (N, K) with one kept."""
    trace.compute_log_prob()
    trace.pack_tensors()
    data = trace.plate_to_symbol["data"]
    inside, outside = [], []
    for node in sites_of(trace).values():
        frames = {frame.name: frame for frame in node["cond_indep_stack"]}
        if "data" in frames:
            rows = frames["data"].size
            inside.append(_with_dim(node["packed"]["log_prob"], data, rows))
        elif set(node["packed"]["log_prob"]._pyro_dims) - set(trace.plate_to_symbol.values()):
            outside.append(node["packed"]["log_prob"])  # of a discrete site that all rows share
    each = _with_dim(inside[0].new_zeros(()), data, rows)  # keeps the rows where all factors are in a deeper plate
    plates = "".join(set(trace.plate_to_symbol.values()) - {data})  # rows are kept apart: not a plate to multiply over
    output, single = data, False
    if keep is not None:
        infer = trace.nodes[keep]["infer"]
        symbol = infer["_dim_to_symbol"][infer["_enumerate_dim"]]
        single = not any(symbol in vars(factor)["_pyro_dims"] for factor in inside)  # one component has no dim to keep
        output += "" if single else symbol
    terms = _einsum([each, *inside, *outside], output, plates)
    terms = terms - _einsum(outside, "", plates) if outside else terms
    return terms.unsqueeze(-1) if single else terms


def _with_dim(factor: Tensor, symbol: str, size: int) -> Tensor:
    """A packed factor with that dim; packing has dropped it where its size is one."""
    dims = getattr(factor, "_pyro_dims", "")
    if symbol not in dims:
        factor = factor.expand(size, *factor.shape)
        vars(factor)["_pyro_dims"] = symbol + dims
    return factor


def _einsum(factors: list[Tensor], output: str, plates: str) -> Tensor:
    inputs = ",".join(vars(factor)["_pyro_dims"] for factor in factors)
    return einsum(f"{inputs}->{output}", *factors, plates=plates, backend=LOG_EINSUM, modulo_total=True)[0]


def _bijection(model: Model, name: str, support: object) -> Transform:
    try:
        return biject_to(support)
    except NotImplementedError as error:
        what = f"site {name!r} of model {model_name(model)} has support {support}, which no bijection reaches"
        raise InputError(f"{what}: use a distribution on a space that torch.distributions.biject_to knows") from error
