"""One log density per model and data, discrete sites summed out: what NUTS, k-hat and the scores share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.infer import config_enumerate
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyro.ops.contract import einsum
from torch import Tensor
from torch.distributions import biject_to
from torch.distributions.constraints import Constraint
from torch.distributions.mixture_same_family import MixtureSameFamilyConstraint
from torch.distributions.transforms import Transform

from ...errors import InputError
from ...models.structure import Model, Structure, model_name
from ...models.trace import is_deterministic, sites_of
from ..compilation.graph import OfData
from ..data.data import Data, structure_on
from ..runtime.pyro_private import enumerated_symbol, packed_dims, set_packed_dims
from .in_blocks import log_joints, whole_file
from .params import with_params

Sites = Mapping[str, Tensor]
LOG_EINSUM = "pyro.ops.einsum.torch_log"
MAX_NUMBERS_AT_ONCE = 12_000_000  # in one tensor: 100 MB


@dataclass(frozen=True)
class Density:
    """log p(x, theta) of a Pyro model, its discrete sites summed out exactly.

    theta is given as constrained sites, name -> Tensor, or as one flat unconstrained vector. Params of the model take
    the value among the sites, else the one in `params`, else that of Pyro's store.
    """

    model: Model
    data: Data
    params: Sites = field(default_factory=dict)

    @cached_property
    def structure(self) -> Structure:
        """The sites of the model on this data."""
        return structure_on(self.model, self.data)

    @cached_property
    def transforms(self) -> dict[str, Transform]:
        """For each latent site the bijection from unconstrained space."""
        return {site.name: _bijection(self.model, site.name, site.support) for site in self.structure.latent}

    def _transforms_anew(self) -> dict[str, Transform]:
        """The same, with supports that another run of the model has on these data."""
        latent = {site.name for site in self.structure.latent}
        with torch.no_grad(), self.data.some_rows():
            trace = self.data.run(poutine.trace(with_params(self.model, self.params)).get_trace)
        supports = {name: node["fn"].support for name, node in sites_of(trace).items() if name in latent}
        return {name: _bijection(self.model, name, support) for name, support in supports.items()}

    @cached_property
    def collapsed(self) -> Model | None:
        """The model with its discrete sites summed out by hand, where it offers that."""
        offer = getattr(self.model, "collapsed", None)
        return offer() if offer else None

    def log_joint(self, sites: Sites) -> Tensor:
        """log p(x, theta) in nats, with respect to the constrained sites: ()."""
        if whole_file(self) is not None:
            return log_joints(self, {name: value.unsqueeze(0) for name, value in sites.items()})[0]
        if self.collapsed is not None:
            trace = self.data.run(poutine.trace(self.given(sites, self.collapsed)).get_trace)
            return trace.log_prob_sum(lambda _, node: not is_deterministic(node))
        trace = self.enumerated(sites)
        evaluator = TraceEinsumEvaluator(trace, bool(self.structure.discrete), self.structure.max_plate_nesting)
        return torch.as_tensor(evaluator.log_prob(trace))

    def log_likelihood(self, sites: Sites, site: str | None = None) -> Tensor:
        """log p(y_n | theta, z_n) of each row, discrete sites summed out, nats: (N,).

        site: of that observed site alone. Of the continuous sites no prior is in it.
        """
        kinds = {s.name: s.kind for s in self.structure.sites}
        counted = lambda name: kinds.get(name) == "discrete" or (name == site if site else kinds.get(name) != "latent")  # noqa: E731
        return self._by_row(sites, counted)

    def log_joint_rows(self, sites: Sites) -> Tensor:
        """The same plus log p(z_n | theta) of each row's own continuous sites: (N,)."""
        return self._by_row(sites, lambda _: True)

    def log_prior_rows(self, sites: Sites) -> Tensor:
        """log p(z_n | theta) of each row's own continuous sites: (N,)."""
        drawn = {site.name for site in (*self.structure.local, *self.structure.discrete)}  # whose own prior sums to one
        return self._by_row(sites, drawn.__contains__)

    def assignment_logits(self, sites: Sites, site: str | None = None) -> Tensor:
        """log p(y_n, z_n = k | theta) of one discrete site, any others summed out: (N, K)."""
        names = [s.name for s in self.structure.labels]
        if not names or (site is not None and site not in names):
            what = f"no discrete site{f' {site!r}' if site else ''} with one value a row"
            raise InputError(f"model {model_name(self.model)} has {what}: there is nothing to assign rows to")
        return self._by_row(sites, lambda _: True, site or names[0])

    def _by_row(self, sites: Sites, counted: Callable[[str], bool], keep: str | None = None) -> Tensor:
        """The sum of the log probs that count, row by row: (N,), or (N, K) with one discrete site kept."""
        rows = self.structure.rows
        if rows is None:
            where = "put its observations under pyro.plate('data', ...)"
            raise InputError(f"model {model_name(self.model)} has no plate of rows: {where} to score them one by one")
        trace = self.enumerated(sites, None if keep else self.collapsed)
        if not self.structure.discrete:
            return _sum_rows(trace, rows.name, counted)
        return _contract_rows(trace, rows.name, counted, keep)

    @property
    def dim(self) -> int:
        """The length of the flat unconstrained vector."""
        return sum(self.transforms[site.name].inverse_shape(site.shape).numel() for site in self.structure.latent)

    def constrain(self, flat: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Constrained sites at flat unconstrained vectors (..., dim), and the log Jacobian, (...)."""
        sites, log_jacobian, start, lead = {}, flat.new_zeros(flat.shape[:-1]), 0, flat.shape[:-1]
        for site in self.structure.latent:
            transform = self.transforms[site.name]
            shape = transform.inverse_shape(site.shape)
            value = flat[..., start : start + shape.numel()].reshape(lead + shape)
            start += shape.numel()
            sites[site.name] = transform(value)
            each = transform.log_abs_det_jacobian(value, sites[site.name])
            log_jacobian = log_jacobian + each.reshape(*lead, -1).sum(-1)
        return sites, log_jacobian

    def unconstrain(self, sites: Sites) -> Tensor:
        """The flat unconstrained vectors (..., dim) of constrained sites (..., their shapes)."""
        lead = lambda site: sites[site.name].shape[: sites[site.name].dim() - len(site.shape)]  # noqa: E731
        free = [self.transforms[s.name].inv(sites[s.name]).reshape(*lead(s), -1) for s in self.structure.latent]
        return torch.cat(free, -1)

    def on(self, data: Data) -> "Density":
        """The same on other data of its kind, whose structure is not read anew."""
        other = replace(self, data=data)
        other.__dict__.update(structure=self.structure, transforms=self.transforms)
        return other

    def of_data(self, method: str, **options: Any) -> Callable[..., Any]:
        """A method as a function that need not be traced again for other data of the same kind, where that can be."""
        if self.data.mapped is not None:
            return partial(getattr(self, method), **options)
        constants = [(name, value) for name, value in self.data.named.items() if not isinstance(value, Tensor)]
        key = (self.model, method, *options.items(), *constants, *self.data.names, self.data.rows)
        try:
            hash(key)
        except TypeError:
            return partial(getattr(self, method), **options)

        def of(tensors: Sequence[Tensor], *args: Any) -> Any:
            given = iter(tensors)
            other = self.on(self.data.map(lambda _: next(given)))
            if method == "log_density" and any(_holds_numbers(site.support) for site in self.structure.latent):
                other.__dict__.update(transforms=other._transforms_anew())
            return getattr(other, method)(*args, **options)

        return OfData(of, tuple(self.data.tensors), key)

    def log_density(self, flat: Tensor) -> Tensor:
        """log p(x, theta) with respect to the flat unconstrained vector: ()."""
        sites, log_jacobian = self.constrain(flat)
        return self.log_joint(sites) + log_jacobian

    def deterministic(self, sites: Sites) -> dict[str, Tensor]:
        """The model's deterministic sites at theta: name -> Tensor."""
        with self.data.some_rows():
            trace = self.data.run(poutine.trace(self.given(sites)).get_trace)
        return {site.name: trace.nodes[site.name]["value"] for site in self.structure.of_kind("deterministic")}

    def observed(self) -> dict[str, np.ndarray]:
        """What the model observes on its data, missing values as NaN: name -> array; nothing of rows in a file."""
        if self.data.mapped is not None:
            return {}
        with self.data.isolated(0), torch.no_grad(), pyro.get_param_store().scope():
            trace = self.data.run(poutine.trace(with_params(self.model, self.params)).get_trace)
        return {site.name: trace.nodes[site.name]["value"].detach().cpu().numpy() for site in self.structure.observed}

    def chunk(self, rows: int | None = None) -> int:
        """How many draws to take at once so that the largest tensor stays near 100 MB. rows: those of the data."""
        others = [plate.size for plate in self.structure.plates.values() if plate != self.structure.rows]
        rows = (self.data.rows or 1) if rows is None else rows
        return max(1, MAX_NUMBERS_AT_ONCE // (rows * max([2, *others]) * self.data.row_numel))

    def given(self, sites: Sites, model: Model | None = None) -> Model:
        """The model with its latent sites and params set."""
        sites = dict(sites)
        return with_params(poutine.condition(model or self.model, data=sites), {**self.params, **sites})

    def enumerated(self, sites: Sites, model: Model | None = None) -> poutine.Trace:
        """The model's trace at these sites, with every value of its discrete ones side by side."""
        model = poutine.enum(
            config_enumerate(self.given(sites, model)), first_available_dim=-1 - self.structure.max_plate_nesting
        )
        return self.data.run(poutine.trace(model).get_trace)


def _sum_rows(trace: poutine.Trace, rows: str, counted: Callable[[str], bool]) -> Tensor:
    """The sum of what counts under the plate of rows, row by row, where nothing is enumerated: (N,)."""
    trace.compute_log_prob()
    frames = [(name, node["log_prob"], f) for name, node in sites_of(trace).items() for f in node["cond_indep_stack"]]
    inside = [(name, log_prob.movedim(f.dim, 0), f.size) for name, log_prob, f in frames if f.name == rows]
    parts = [each.reshape(len(each), -1).sum(-1).expand(size) for name, each, size in inside if counted(name)]
    return sum(parts[1:], parts[0]) if parts else inside[0][1].new_zeros(inside[0][2])


def _contract_rows(trace: poutine.Trace, rows: str, counted: Callable[[str], bool], keep: str | None = None) -> Tensor:
    """Sum the discrete sites out of what counts under the plate of rows, row by row: (N,), or (N, K) with one kept."""
    trace.compute_log_prob()
    trace.pack_tensors()
    data = trace.plate_to_symbol[rows]
    inside, outside = [], []
    for name, node in sites_of(trace).items():
        frames = {frame.name: frame for frame in node["cond_indep_stack"]}
        if rows in frames:
            size = frames[rows].size
            if counted(name):
                inside.append(_with_dim(node["packed"]["log_prob"], data, size))
        elif set(packed_dims(node["packed"]["log_prob"])) - set(trace.plate_to_symbol.values()):
            outside.append(node["packed"]["log_prob"])  # of a discrete site that all rows share
    each = _with_dim(inside[0].new_zeros(()), data, size)  # keeps the rows where all factors are in a deeper plate
    plates = "".join(set(trace.plate_to_symbol.values()) - {data})  # rows are kept apart: not a plate to multiply over
    kept = "" if keep is None else enumerated_symbol(trace.nodes[keep])
    output = data + kept if any(kept in packed_dims(factor) for factor in inside) else data
    terms = _einsum([each, *inside, *outside], output, plates)
    terms = terms - _einsum(outside, "", plates) if outside else terms
    return terms if keep is None else terms.reshape(size, -1)  # one component has no dim to keep


def _with_dim(factor: Tensor, symbol: str, size: int) -> Tensor:
    """A packed factor with that dim; packing has dropped it where its size is one."""
    dims = packed_dims(factor)
    if symbol not in dims:
        factor = factor.expand(size, *factor.shape)
        set_packed_dims(factor, symbol + dims)
    return factor


def _einsum(factors: list[Tensor], output: str, plates: str) -> Tensor:
    inputs = ",".join(packed_dims(factor) for factor in factors)
    return einsum(f"{inputs}->{output}", *factors, plates=plates, backend=LOG_EINSUM, modulo_total=True)[0]


def _holds_numbers(support: object) -> bool:
    """Whether a support is made of tensors, which other data may give other values."""
    parts = list(vars(support).values()) if isinstance(support, Constraint) else []
    return any(isinstance(part, Tensor) or _holds_numbers(part) for part in parts)


def _bijection(model: Model, name: str, support: object) -> Transform:
    if isinstance(support, MixtureSameFamilyConstraint):
        support = support.base_constraint  # of every component
    try:
        return biject_to(support)
    except NotImplementedError as error:
        what = f"site {name!r} of model {model_name(model)} has support {support}, which no bijection reaches"
        raise InputError(f"{what}: use a distribution on a space that torch.distributions.biject_to knows") from error
