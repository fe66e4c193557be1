"""The best member of a guide's family for each row alone: what amortisation is measured against.

A family is a function params -> q(z | x), batch (M,), event (L,). It is read off the guide's own q, whose params are
also the start, so that the best can only be better than the guide. Every row has params of its own and Adam treats each
number apart, so all rows are optimised at once and none disturbs another.
"""

import copy
import math
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, MultivariateNormal, Normal

from .target import LogJoint, Posterior, Target

Params: TypeAlias = dict[str, Tensor]
Family: TypeAlias = Callable[[Params], Distribution]


def mean_field(params: Params) -> Distribution:
    """prod_l Normal(z_l | loc_l, scale_l). loc, log_scale: (M, L)."""
    return Independent(Normal(params["loc"], params["log_scale"].exp()), 1)


def full_covariance(params: Params) -> Distribution:
    """Normal(z | loc, T T^T), T lower triangular. loc, log_diagonal: (M, L). below: (M, L, L), its rest unused."""
    scale_tril = params["below"].tril(-1) + torch.diag_embed(params["log_diagonal"].exp())
    return MultivariateNormal(params["loc"], scale_tril=scale_tril)


def low_rank(params: Params) -> Distribution:
    """Normal(z | loc, F F^T + diag). loc, log_diagonal: (M, L). factor: (M, L, R)."""
    return LowRankMultivariateNormal(params["loc"], params["factor"], params["log_diagonal"].exp())


def family_of(q: Distribution) -> tuple[Family, Params] | None:
    """Family and params of a Gaussian q; None for any other."""
    if isinstance(q, Independent) and isinstance(q.base_dist, Normal):
        return mean_field, {"loc": q.mean, "log_scale": q.stddev.log()}
    if isinstance(q, MultivariateNormal):
        diagonal = q.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return full_covariance, {"loc": q.loc, "log_diagonal": diagonal, "below": q.scale_tril}
    if isinstance(q, LowRankMultivariateNormal):
        return low_rank, {"loc": q.loc, "log_diagonal": q.cov_diag.log(), "factor": q.cov_factor}
    return None


def best_in_family(
    log_joint: LogJoint, q: Distribution, *, steps: int = 1000, lr: float = 0.05, particles: int = 16
) -> tuple[Distribution | None, str]:
    """The q of the largest ELBO in the family of a Gaussian q, row by row, and the family's name; None for another q.

    log_joint: (..., M, L) -> (..., M). q: batch (M,), event (L,), where the search starts. The gradient is Roeder, Wu
    and Duvenaud's (2017, "sticking the landing"), free of noise where q reaches the posterior; the rate falls to nought
    by a cosine.
    """
    found = family_of(q)
    if found is None:
        return None, type(q).__name__
    family, start = found
    params = {key: value.detach().clone().requires_grad_() for key, value in start.items()}

    def fixed() -> Distribution:
        return family({key: value.detach() for key, value in params.items()})

    def loss() -> Tensor:
        z = family(params).rsample(Size((particles,)))
        return (fixed().log_prob(z) - log_joint(z)).mean(0).sum()

    _descend(loss, list(params.values()), steps, lr)
    return fixed(), family.__name__


def fine_tuned(
    target: Target, guide: nn.Module, *, steps: int = 1000, lr: float = 3e-3, particles: int = 32
) -> Posterior:
    """A posterior(x, rows) of whole copies of the guide, each trained on one row until it knows nothing else.

    This is the way to the best member of a family that has no params a row, such as a flow fed by an encoder. What
    comes back gives q of one of the target's rows.
    """

    def tuned(one: Target) -> nn.Module:
        own = copy.deepcopy(guide).requires_grad_()

        def loss() -> Tensor:
            q = own.posterior(one.density.data.values, one.rows)  # type: ignore[operator]
            z = q.rsample(Size((particles,)))
            return (q.log_prob(z) - one.density.log_joint(z)).mean()

        _descend(loss, [value for value in own.parameters() if value.is_floating_point()], steps, lr)
        return own

    copies = {int(one.rows): tuned(one) for one in target.blocks(1)}
    return lambda x, rows: copies[int(rows[0])].posterior(x, rows)  # type: ignore[index, operator]


def _descend(loss: Callable[[], Tensor], params: list[Tensor], steps: int, lr: float) -> None:
    """Adam, its rate falling to nought by a cosine."""
    optimizer = torch.optim.Adam(params, lr)
    with torch.enable_grad():
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            loss().backward(inputs=params)
            optimizer.step()
