"""The No-U-Turn sampler on a model with its discrete sites summed out, chains side by side."""

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ...errors import (
    InputError,
    check_between,
    check_jobs,
    check_memory,
    check_name,
    check_positive,
    check_seed,
    is_one_of,
)
from ...models.arguments import blamed
from ...models.structure import Model, model_name
from ..compilation.batched import over_draws
from ..compilation.compiled import Compile, check_compile
from ..compilation.graph import changed
from ..data.as_data import DataLike, data_for
from ..density.batch_size import on_all_rows
from ..density.log_density import Density
from ..density.start import start_of
from ..deterministic.start import gaussian_start
from ..distributed.group import check_alone
from ..fit.convergence import ESS_PER_CHAIN, RHAT, convergence, unconverged
from ..fit.fit import Fit
from ..fit.idata import fit_of
from ..mapped.blocks import evenly_spaced
from ..runtime.isolation import one_thread_if_small
from .chains import Plan, run_chains
from .engines import ENGINES
from .modes import modes, told

FEW, CEILING = 1000, 16_000  # draws of a chain, where they are as many as it takes
SLACK = 1.3  # times what the ESS so far asks for
SHORT = 200  # steps of a chain that checks a fit, and draws
STUCK = 1.1  # R-hat of chains that more draws will hardly bring together
NO_WEIGHT = 0.01  # of a mode, that chains may pass over


def nuts(
    model: Model,
    x: DataLike,
    *,
    engine: Literal["auto", "nutpie", "pyro"] = "auto",
    warmup: int = 500,
    draws: int | Literal["auto"] = 1000,
    chains: int = 4,
    seed: int = 0,
    jobs: int | None = None,
    target_accept: float = 0.9,
    mass_matrix: Literal["auto", "diagonal", "low_rank"] = "auto",
    compile: Compile = "auto",
    dtype: torch.dtype | None = None,
    progress: bool = True,
    name: str = "nuts",
) -> Fit:
    """Draw from the posterior by NUTS (Hoffman and Gelman 2014), discrete sites summed out exactly.

    Parameters
    ----------
    model : any Pyro program; minibatches are switched off.
    x, dtype : what the model takes, as `compare` has it, in float64 by default.
    engine : whose sampler runs: nutpie (Rust, around the same density), pyro, or auto, which takes nutpie.
    warmup, draws : of each chain. draws="auto" begins with 1,000 and, where R-hat is above 1.01 or a bulk or tail ESS
        below 100 a chain, begins again with as many as that asks for, at most 16,000, warmup in proportion; where
        chains stay apart, from draws of Gaussians that were found near the posterior.
    chains : each starts from `model.init` with a seed of its own where the model has it, else at random.
    seed : the same seed gives the same draws.
    jobs : chains at once, in threads of this process; None and -1 are one a core. The draws do not depend on it.
    target_accept : the acceptance probability that the step size is adapted to; above the usual 0.8, at which some
        posteriors diverge that at 0.9 do not.
    mass_matrix : nutpie's. low_rank follows strong correlations of the posterior, which gives many times the effective
        draws where there are some; it takes more time a step, the longer the more dimensions. auto: low_rank up to 64
        unconstrained dimensions, diagonal above.
    compile : run the density as one compiled function, held to the eager one first. auto: a C function, ready in a
        second and kept on disk for every later run, or TorchScript where a second is more than all of the work; True: a
        C function in any case; False: eager. Where it cannot be done, the next best runs, with a warning that says why;
        `Fit.compiled` says what was done.

    Returns
    -------
    Fit
        Its sample_stats: lp (log density in unconstrained space), diverging, step_size; sampling_time among their
        attrs, the seconds until all draws were there. Ctrl-C gives a Fit of the draws so far, its `message` saying so.

    Raises
    ------
    InputError
        Bad data or options, a model without continuous sites, or one whose density is finite nowhere it was tried.

    Examples
    --------
    >>> import pyrometer
    >>> from pyrometer.models import CorrelatedGaussian
    >>> fit = pyrometer.nuts(CorrelatedGaussian(), "faithful", warmup=300, draws=500, progress=False)
    >>> fit.posterior["loc"].mean(("chain", "draw")).values.round(1).tolist()
    [3.5, 70.9]
    """
    check_alone("nuts")
    began = time.perf_counter()
    options: dict[str, Any] = {"jobs": jobs, "target_accept": target_accept, "compile": compile}
    check_sampling(warmup=warmup, draws=draws, chains=chains, **options)
    seed, name = check_seed(seed), check_name(name)
    if not is_one_of(engine, "auto", *ENGINES):
        raise InputError(f"engine={engine!r} is unknown: choose auto, {' or '.join(ENGINES)}")
    if not is_one_of(mass_matrix, "auto", "diagonal", "low_rank"):
        raise InputError(f"mass_matrix={mass_matrix!r} is unknown: choose auto, diagonal or low_rank")
    if engine == "pyro" and mass_matrix == "low_rank":
        raise InputError(f"mass_matrix={mass_matrix!r} is nutpie's alone: take engine='nutpie'")
    model = on_all_rows(model)
    data, _ = data_for(model, x, dtype)
    with blamed(model), data.isolated(seed):
        density = Density(model, data)
        if not density.structure.latent:
            raise InputError(f"model {model_name(model)} has no continuous latent site: there is nothing to sample")
        check_memory(chains * density.dim, draws=FEW if draws == "auto" else draws)
    sampler = "nutpie" if engine == "auto" else engine
    number = FEW if draws == "auto" else draws
    plan = Plan(density, sampler, warmup, number, seed, target_accept, mass_matrix, compile)
    with blamed(model):
        fit = _sampled(plan, chains, jobs, name, progress)
        while draws == "auto" and not fit.message and (better := _improved(plan, fit, chains)):
            again = _sampled(better, chains, jobs, name, progress)
            if better.starts is not None and plan.starts is None and _passed_over(fit, again):
                break
            plan, fit = better, again
    return replace(fit, seconds=time.perf_counter() - began)


def check_sampling(
    *,
    warmup: int,
    draws: int | Literal["auto"],
    chains: int,
    jobs: int | None = None,
    target_accept: float | None = None,
    compile: Compile = "auto",
    **_: object,
) -> None:
    """Refuse options of `nuts` that cannot be, whatever the model."""
    check_jobs(jobs)
    check_positive(warmup=warmup, chains=chains)
    if not is_one_of(draws, "auto"):
        check_positive(draws=draws)  # type: ignore[arg-type]
    check_between(0, 1, target_accept=target_accept)
    check_compile(compile)


def chains_from(
    fit: Fit,
    chains: int = 4,
    warmup: int = SHORT,
    draws: int = SHORT,
    seed: int = 0,
    starts: torch.Tensor | None = None,
) -> Fit:
    """Short chains that start from draws of a fit: how they move away bounds its errors (Wang and others 2023).

    starts: unconstrained points to start from instead, one a chain, (chains, dim).
    """
    density = fit.density
    if starts is None:
        with density.data.isolated(seed), torch.no_grad():
            places = evenly_spaced(fit.number, chains)
            starts = density.unconstrain({name: value[places] for name, value in fit.sites().items()})
    plan = Plan(density, "nutpie", warmup, draws, seed, starts=starts)
    return _sampled(plan, len(starts), None, f"{fit.name}, checked", False)


def _sampled(plan: Plan, chains: int, jobs: int | None, name: str, progress: bool) -> Fit:
    """The Fit of chains that are run as planned; what keeps them apart is among its remarks."""
    if plan.compile is False:  # else torch has loaded by now what it traces with, which takes a second or two
        _rehearsed(plan, name)
    sampling = time.perf_counter()
    flat, stats, message, compiled = run_chains(plan, chains, jobs, name, progress)
    compiled, _, why = compiled.partition(": ")
    if why:
        warnings.warn(f"{name}: the density runs as {compiled}, for {why}", stacklevel=3)
    sampling = time.perf_counter() - sampling
    fit = _fit(plan, name, torch.as_tensor(flat), stats, message=message, compiled=compiled)
    fit.idata["sample_stats"].attrs["sampling_time"] = sampling  # seconds, as ArviZ has it
    fault = unconverged(fit)
    apart = told(modes(*_in_one_labelling(fit))) if fault and len(flat) > 1 else ""
    remarks = (*fit.remarks, *([apart] if apart else []))
    return replace(fit, converged=not fault, why=fault, remarks=remarks)


def _fit(plan: Plan, name: str, flat: Tensor, stats: Mapping[str, np.ndarray], **rest: Any) -> Fit:
    """The Fit of unconstrained draws (chains, draws, dim)."""
    density = plan.density
    with one_thread_if_small(density.data.numel), density.data.isolated(plan.seed):
        sites, _ = density.constrain(flat.to(density.data.like).flatten(0, 1))
        chained = {key: value.unflatten(0, flat.shape[:2]) for key, value in sites.items()}
        return fit_of(name, "NUTS", density, chained, stats, steps=plan.warmup + flat.shape[1], **rest)


def _rehearsed(plan: Plan, name: str) -> None:
    """Make a Fit of a start: whoever stops the chains is not kept waiting for what is imported and traced for one."""
    with plan.density.data.isolated(plan.seed):
        start = start_of(plan.density, plan.seed) if plan.starts is None else plan.starts[0]
    _fit(plan, name, start.reshape(1, 1, -1), {})


def _in_one_labelling(fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Unconstrained draws (chains, draws, dim) and their log density, of matched labels where labels may switch.

    Another labelling of one mode is no other mode.
    """
    density, log_density = fit.density, fit.idata["sample_stats"]["lp"].values
    with one_thread_if_small(density.data.numel), density.data.isolated(0), torch.no_grad():
        flat = density.unconstrain(fit.sites())
        if fit.labels:
            at = over_draws(changed(density.of_data("log_density"), _at_flat), {"flat": flat}, density.chunk())
            log_density = at.cpu().numpy().reshape(log_density.shape)
    return flat.cpu().numpy().reshape(*log_density.shape, -1), log_density


def _at_flat(log_density: Callable[[Tensor], Tensor]) -> Callable[[dict[str, Tensor]], Tensor]:
    """A log density of an unconstrained vector as one of a draw that is called `flat`."""
    return lambda draw: log_density(draw["flat"])


def _passed_over(before: Fit, after: Fit) -> bool:
    """Whether chains that began anew miss a mode in which others stayed, and which weighs something."""
    pairs = zip(_in_one_labelling(before), _in_one_labelling(after), strict=True)
    draws, log_density = (np.concatenate(both) for both in pairs)
    number = before.posterior.sizes["chain"]
    return any(max(mode.chains) < number and mode.weight > NO_WEIGHT for mode in modes(draws, log_density))


def _improved(plan: Plan, fit: Fit, chains: int) -> Plan | None:
    """What to run instead where chains have not converged: as many draws as R-hat and ESS ask for, or better starts.

    None where nothing is wrong that either could mend.
    """
    found = convergence(fit)
    if not found["rhat"] < STUCK:
        found_starts = None if plan.starts is not None else _starts_near(plan, chains)
        return None if found_starts is None else replace(plan, starts=found_starts)
    short = max(
        ESS_PER_CHAIN * chains / min(found["ess_bulk"], found["ess_tail"]), 2.0 if found["rhat"] > RHAT else 0.0
    )
    more = min(int(SLACK * short * plan.draws), CEILING)
    return (
        replace(plan, draws=more, warmup=plan.warmup * more // plan.draws) if short > 1 and more > plan.draws else None
    )


def _starts_near(plan: Plan, chains: int) -> torch.Tensor | None:
    """A draw for each chain from a Gaussian near the posterior, found by an ascent of its own; None where one fails."""
    starts = []
    for chain in range(chains):
        gaussian = gaussian_start(plan.density, plan.seed + chain)
        if gaussian is None:
            return None
        loc, factor = gaussian
        noise = torch.randn(loc.shape, generator=torch.Generator().manual_seed(plan.seed + chain), dtype=loc.dtype)
        starts.append(loc + factor @ noise)
    return torch.stack(starts)
