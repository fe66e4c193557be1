"""What a trained guide says: draws of theta, their importance weights, and the ELBO draw by draw."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from pyro import poutine
from pyro.infer import TraceEnum_ELBO, config_enumerate
from pyro.infer.autoguide import AutoLaplaceApproximation
from torch import Tensor
from torch.distributions import MultivariateNormal

from ...errors import InputError
from ...guides import Guide
from ..compilation.batched import over_draws, repeated
from ..compilation.compiled import value_and_gradient
from ..compilation.graph import graph_of
from ..data.some_rows import OnRows
from ..density.ascent import ascend
from ..density.in_blocks import log_joints
from ..density.laplace import row_modes
from ..runtime.isolation import seed_torch

if TYPE_CHECKING:
    from ..density.log_density import Density
    from ..steps.pairing import Pairing

NONE = np.zeros(0)
BLOCK_ROWS = 50_000  # of a file, at once


class Approximation(NamedTuple):
    """sites: name -> (S, ...). log_weights: log p(x, theta) - log q(theta), (S,). elbo_draws: (S,). All in nats.

    A point estimate has S = 1 and no weights; a model whose only latent sites are discrete has its params for sites.
    """

    sites: dict[str, Tensor]
    log_weights: np.ndarray
    elbo_draws: np.ndarray


def approximation(pairing: Pairing, density: Density, draws: int) -> Approximation:
    """Sample a trained guide; to be called within `isolated`, the guide's parameters in the store.

    pairing and density: on all rows. draws: S.
    """
    if not density.structure.latent:
        sites = {s.name: density.params[s.name].unsqueeze(0) for s in density.structure.of_kind("param")}
        elbo = _elbo_draws if density.data.mapped is None else _elbo_in_blocks
        return Approximation(sites, NONE, elbo(pairing, density, draws))
    if pairing.point:
        with density.data.some_rows():
            sites, _ = repeated(_one_draw(pairing.guide, density), 1)
        own = {name: value.clone() for name, value in sites.items()}  # not the guide's params, which may change yet
        return Approximation(own, NONE, NONE)
    if density.data.mapped is not None:
        return _of_file(pairing, density, draws)
    if isinstance(pairing.guide, AutoLaplaceApproximation):
        sites, log_q = _laplace_draws(pairing.guide, density, draws)
    else:
        sites, log_q = repeated(_one_draw(pairing.guide, density), draws, density.chunk())
    log_joint = over_draws(density.of_data("log_joint"), sites, density.chunk())
    log_weights = (log_joint - log_q).cpu().numpy()
    return Approximation(sites, log_weights, _elbo_draws(pairing, density, draws) if pairing.assigns else log_weights)


def _of_file(pairing: Pairing, density: Density, draws: int) -> Approximation:
    """The same where rows lie in a file: draws of the guide, and one pass over all rows for what they weigh."""
    if isinstance(pairing.guide, AutoLaplaceApproximation):
        raise InputError("auto_laplace wants the curvature of all rows at once: take auto_mvn, or a sample of rows")
    with density.data.some_rows():
        sites, log_q = repeated(_one_draw(pairing.guide, density), draws)
    log_weights = (log_joints(density, sites) - log_q).cpu().numpy()
    return Approximation(
        sites, log_weights, _elbo_in_blocks(pairing, density, draws) if pairing.assigns else log_weights
    )


def _elbo_in_blocks(pairing: Pairing, density: Density, draws: int) -> np.ndarray:
    """The ELBO once a draw where the guide assigns rows: the mean of what each block, scaled to all rows, says of it.

    Every block has the same draws of what rows share.
    """
    file, total, seed = density.data.mapped, np.zeros(draws), int(torch.randint(2**31, ()))
    assert file is not None
    size = min(BLOCK_ROWS, -(-len(file) // 2))  # never all, which would not be cut
    for start in range(0, len(file), size):
        rows = torch.arange(start, min(start + size, len(file)))
        seed_torch(seed)
        with OnRows(len(file), rows):
            total += _elbo_draws(pairing, density, draws, size) * (len(rows) / len(file))
        density.data.release()
    return total


def _one_draw(guide: Guide, density: Density) -> Callable[[], tuple[dict[str, Tensor], Tensor]]:
    """A draw of the continuous sites and its log q; q(z) is left out of both."""
    names = [site.name for site in density.structure.latent]
    discrete = {site.name for site in density.structure.discrete}

    def draw() -> tuple[dict[str, Tensor], Tensor]:
        trace = density.data.run(poutine.trace(guide).get_trace)
        log_q = trace.log_prob_sum(lambda name, _: name not in discrete)
        return {name: trace.nodes[name]["value"].detach() for name in names}, torch.as_tensor(log_q).detach()

    return draw


def _laplace_draws(guide: AutoLaplaceApproximation, density: Density, draws: int) -> tuple[dict[str, Tensor], Tensor]:
    """Draws of Laplace's approximation, and their log q."""
    q = laplace(guide, density)
    drawn = q.sample(torch.Size((draws,)))
    sites, log_jacobian = density.constrain(drawn)
    return sites, q.log_prob(drawn) - log_jacobian


def laplace(guide: Guide, density: Density) -> MultivariateNormal:
    """Normal(mode, H^-1) in unconstrained space, H the Hessian of -log density there: event (dim,).

    L-BFGS and Newton's method climb to the mode from where the guide stands. Raises InputError where there is none.
    """
    point, _ = _one_draw(guide, density)()  # this guide is a Delta until its curvature is known
    flat = density.unconstrain(point)
    log_density = graph_of(density.of_data("log_density"), (flat,), (flat + 0.1,)) or density.log_density
    q, found = row_modes(lambda rows: log_density(rows[0]).unsqueeze(0), _climbed(density, flat).unsqueeze(0))
    if not found:
        raise InputError("the posterior has no mode where the optimizer stopped: train longer, or use auto_mvn")
    return MultivariateNormal(q.loc[0], precision_matrix=q.precision_matrix[0], validate_args=False)


def _climbed(density: Density, flat: Tensor) -> Tensor:
    """Where L-BFGS comes to: far from a mode, on columns of unlike scales, Newton's method alone stalls. (dim,)."""
    both, _ = value_and_gradient(density.of_data("log_density"), flat, flat + 0.1)

    def at(point: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = both(torch.as_tensor(point).to(flat))
        return float(value), gradient.double().cpu().numpy()

    return torch.as_tensor(ascend(at, flat.double().cpu().numpy()).points[-1]).to(flat)


def _elbo_draws(pairing: Pairing, density: Density, draws: int, rows: int | None = None) -> np.ndarray:
    """The ELBO once a draw, q(z) included: in closed form where enumerated, sampled where sampled.

    rows: that are looked at; None for all.
    """
    elbo = TraceEnum_ELBO(max_plate_nesting=density.structure.max_plate_nesting)
    program = config_enumerate(pairing.model)

    def loss() -> Tensor:
        with torch.enable_grad():  # Pyro refuses a loss that nothing could be learnt from
            return density.data.run(partial(elbo.differentiable_loss, program, pairing.guide)).detach()

    return -repeated(loss, draws, density.chunk(rows)).cpu().numpy()
