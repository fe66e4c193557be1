"""All underscored names of Pyro that inference touches, each under a public one: what to check when Pyro changes."""

import copy
from typing import Any

import pyro
from pyro import poutine
from pyro.infer import ELBO, NUTS, TraceGraph_ELBO, traceenum_elbo
from pyro.params import param_store
from pyro.poutine import subsample_messenger
from torch import Tensor, nn
from torch.distributions.constraints import Constraint

enumerated_elbo = traceenum_elbo._compute_dice_elbo  # of a pair of traces, nats: ()
MODULE_DIVIDER = param_store._MODULE_NAMESPACE_DIVIDER  # in a network's param: "net$$$weight"
Subsample = subsample_messenger._Subsample  # the distribution of a plate's own site


def stored_params() -> dict[str, Tensor]:
    """The unconstrained tensors in the param store, name -> the very tensor that is trained."""
    return pyro.get_param_store()._params


def stored_constraint(name: str) -> Constraint:
    """The constraint of a param in the store."""
    return pyro.get_param_store()._constraints[name]


def traces_of(elbo: ELBO, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[poutine.Trace, poutine.Trace]:
    """The traces of model and guide that an estimator of one particle, or of vectorized ones, takes."""
    ((joint, own),) = elbo._get_traces(model, guide, args, kwargs)
    return joint, own


def graph_losses(elbo: TraceGraph_ELBO, model: Any, guide: Any, args: Any, kwargs: Any) -> tuple[Tensor, Tensor]:
    """Minus the ELBO, nats, and the surrogate whose gradient is that of its estimator."""
    elbo_value, surrogate = elbo._loss_and_surrogate_loss(model, guide, args, kwargs)
    return -elbo_value, surrogate


def packed_dims(factor: Tensor) -> str:
    """The symbols of a packed tensor's dims, one each; empty where it was not packed."""
    return getattr(factor, "_pyro_dims", "")


def set_packed_dims(factor: Tensor, symbols: str) -> None:
    """Name a tensor's dims, one symbol each."""
    vars(factor)["_pyro_dims"] = symbols


def enumerated_symbol(node: dict[str, Any]) -> str:
    """The symbol of the dim along which a site is enumerated."""
    return node["infer"]["_dim_to_symbol"][node["infer"]["_enumerate_dim"]]


def potential_energy(kernel: NUTS) -> Tensor:
    """Minus the log density at the kernel's current draw, nats: ()."""
    return kernel._fetch_from_cache()[1]


def num_divergences(kernel: NUTS) -> int:
    """Divergent draws so far; the kernel forgets them at its end."""
    return len(kernel._divergences)


def copied_guide(guide: Any) -> Any:
    """A deep copy of a guide, which takes AutoGuides their `_model` and `master`, the original's too: put back."""
    modules: list[Any] = list(guide.modules()) if isinstance(guide, nn.Module) else []
    kept = [{name: vars(module)[name] for name in ("_model", "master") if name in vars(module)} for module in modules]
    copied = copy.deepcopy(guide)
    for old, new, state in zip(modules, copied.modules() if modules else [], kept, strict=True):
        vars(old).update(state)
        if "_model" in state:
            vars(new)["_model"] = state["_model"]
    return copied
