"""The gallery's programs have the density of the published ones up to a constant; their data and reference load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from numpy.random import Generator
from pyro import poutine
from pyro.infer.mcmc.util import TraceEinsumEvaluator
from pyrometer.datasets import PUBLISHED, published_data, reference
from pyrometer.errors import InputError
from pyrometer.inference.data.as_data import data_for
from pyrometer.inference.density.log_density import Density
from pyrometer.models.gallery import GALLERY, Posterior
from pyrometer.models.gallery.series import PositiveOrdered, first_order
from scipy import stats
from scipy.special import logsumexp

Values = dict[str, Any]
Truth = Callable[[Values, Values], float]


@pytest.fixture(autouse=True)
def doubles() -> Iterator[None]:
    """Float64, as in a fit."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


# The unnormalised log posteriors of posteriordb's Stan programs, of the data and the parameters under the names there.


def normals(y: np.ndarray, loc: Any, scale: Any) -> float:
    return float(stats.norm.logpdf(y, loc, scale).sum())


def half_cauchy(x: float, scale: float) -> float:
    return float(stats.cauchy.logpdf(x, 0, scale))


def log_arK(data: Values, p: Values) -> float:
    y, K = data["y"], data["K"]
    total = normals(p["alpha"], 0, 10) + normals(p["beta"], 0, 10) + half_cauchy(p["sigma"], 2.5)
    for t in range(K, data["T"]):
        loc = p["alpha"] + sum(p["beta"][k] * y[t - 1 - k] for k in range(K))
        total += normals(y[t], loc, p["sigma"])
    return total


def log_arma(data: Values, p: Values) -> float:
    y, total = data["y"], normals(p["mu"], 0, 10) + normals(p["phi"], 0, 2) + normals(p["theta"], 0, 2)
    err = [y[0] - (p["mu"] + p["phi"] * p["mu"])]
    for t in range(1, data["T"]):
        err.append(y[t] - (p["mu"] + p["phi"] * y[t - 1] + p["theta"] * err[-1]))
    return total + half_cauchy(p["sigma"], 2.5) + normals(np.array(err), 0, p["sigma"])


def log_diamonds(data: Values, p: Values) -> float:
    centred = data["X"][:, 1:] - data["X"][:, 1:].mean(0)
    priors = stats.t.logpdf(p["Intercept"], 3, 8, 10) + stats.t.logpdf(p["sigma"], 3, 0, 10)
    return float(priors) + normals(p["b"], 0, 1) + normals(data["Y"], p["Intercept"] + centred @ p["b"], p["sigma"])


def log_earnings(data: Values, p: Values) -> float:
    return normals(np.log(data["earn"]), p["beta"][0] + p["beta"][1] * data["height"], p["sigma"])


def log_schools_centered(data: Values, p: Values) -> float:
    priors = normals(p["mu"], 0, 5) + half_cauchy(p["tau"], 5)
    return priors + normals(p["theta"], p["mu"], p["tau"]) + normals(data["y"], p["theta"], data["sigma"])


def log_schools_noncentered(data: Values, p: Values) -> float:
    priors = normals(p["mu"], 0, 5) + half_cauchy(p["tau"], 5) + normals(p["theta_trans"], 0, 1)
    return priors + normals(data["y"], p["theta_trans"] * p["tau"] + p["mu"], data["sigma"])


def log_garch(data: Values, p: Values) -> float:
    y, variance = data["y"], data["sigma1"] ** 2
    total = normals(y[0], p["mu"], np.sqrt(variance))
    for t in range(1, data["T"]):
        variance = p["alpha0"] + p["alpha1"] * (y[t - 1] - p["mu"]) ** 2 + p["beta1"] * variance
        total += normals(y[t], p["mu"], np.sqrt(variance))
    return total


def log_gp(data: Values, p: Values) -> float:
    rate = np.exp(gp_f(data, p))
    priors = stats.gamma.logpdf(p["rho"], 25, scale=1 / 4) + stats.norm.logpdf(p["alpha"], 0, 2)
    return float(priors) + normals(p["f_tilde"], 0, 1) + float(stats.poisson.logpmf(data["k"], rate).sum())


def gp_f(data: Values, p: Values) -> np.ndarray:
    gaps = np.subtract.outer(data["x"], data["x"])
    covariance = p["alpha"] ** 2 * np.exp(-(gaps**2) / (2 * p["rho"] ** 2)) + 1e-10 * np.eye(data["N"])
    f: np.ndarray = np.linalg.cholesky(covariance) @ p["f_tilde"]
    return f


def log_hmm(data: Values, p: Values) -> float:
    log_theta = np.log([p["theta1"], p["theta2"]])
    forward = stats.norm.logpdf(data["y"][0], p["mu"], 1)
    for y in data["y"][1:]:
        forward = logsumexp(forward[:, None] + log_theta, axis=0) + stats.norm.logpdf(y, p["mu"], 1)
    return normals(p["mu"], [3, 10], 1) + float(logsumexp(forward))


def log_kid_interaction(data: Values, p: Values) -> float:
    b, hs, iq = p["beta"], data["mom_hs"], data["mom_iq"]
    loc = b[0] + b[1] * hs + b[2] * iq + b[3] * hs * iq
    return half_cauchy(p["sigma"], 2.5) + normals(data["kid_score"], loc, p["sigma"])


def log_kid_momiq(data: Values, p: Values) -> float:
    loc = p["beta"][0] + p["beta"][1] * data["mom_iq"]
    return half_cauchy(p["sigma"], 2.5) + normals(data["kid_score"], loc, p["sigma"])


def log_kilpisjarvi(data: Values, p: Values) -> float:
    alpha = normals(p["alpha"], data["pmualpha"], data["psalpha"])
    beta = normals(p["beta"], data["pmubeta"], data["psbeta"])
    return alpha + beta + normals(data["y"], p["alpha"] + p["beta"] * data["x"], p["sigma"])


def log_mesquite(data: Values, p: Values) -> float:
    b, d1, d2 = p["beta"], data["diam1"], data["diam2"]
    loc = b[0] + b[1] * np.log(d1 * d2 * data["canopy_height"]) + b[2] * np.log(d1 * d2) + b[3] * np.log(d1 / d2)
    loc += b[4] * np.log(data["total_height"]) + b[5] * np.log(data["density"]) + b[6] * data["group"]
    return normals(np.log(data["weight"]), loc, p["sigma"])


def log_nes(data: Values, p: Values) -> float:
    b, age = p["beta"], data["age_discrete"]
    loc = b[0] + b[1] * data["real_ideo"] + b[2] * data["race_adj"]
    loc += b[3] * (age == 2) + b[4] * (age == 3) + b[5] * (age == 4)
    loc += b[6] * data["educ1"] + b[7] * data["gender"] + b[8] * data["income"]
    return normals(data["partyid7"], loc, p["sigma"])


def log_blr(data: Values, p: Values) -> float:
    priors = normals(p["beta"], 0, 10) + normals(p["sigma"], 0, 10)
    return priors + normals(data["y"], data["X"] @ p["beta"], p["sigma"])


TRUTHS: dict[str, Truth] = {
    "arK-arK": log_arK,
    "arma-arma11": log_arma,
    "diamonds-diamonds": log_diamonds,
    "earnings-logearn_height": log_earnings,
    "eight_schools-eight_schools_centered": log_schools_centered,
    "eight_schools-eight_schools_noncentered": log_schools_noncentered,
    "garch-garch11": log_garch,
    "gp_pois_regr-gp_pois_regr": log_gp,
    "hmm_example-hmm_example": log_hmm,
    "kidiq-kidscore_interaction": log_kid_interaction,
    "kidiq-kidscore_momiq": log_kid_momiq,
    "kilpisjarvi_mod-kilpisjarvi": log_kilpisjarvi,
    "mesquite-logmesquite_logvas": log_mesquite,
    "nes1992-nes": log_nes,
    "sblrc-blr": log_blr,
}


def shares(rng: Generator) -> Values:
    alpha1, beta1, _ = rng.dirichlet([2, 2, 2])
    return {"alpha1": alpha1, "beta1": beta1}


def kilpisjarvi_line(rng: Generator) -> Values:
    beta = rng.normal(0.02, 0.01)
    return {"beta": beta, "alpha": 9 - 3980 * beta + rng.normal()}


POINTS: dict[str, Callable[[Generator], Values]] = {
    "arK-arK": lambda rng: {"alpha": rng.normal(), "beta": rng.normal(size=5), "sigma": rng.gamma(2)},
    "arma-arma11": lambda rng: {
        "mu": rng.normal(),
        "phi": rng.normal(),
        "theta": rng.uniform(-1.1, 1.1),
        "sigma": rng.gamma(2),
    },
    "diamonds-diamonds": lambda rng: {"b": rng.normal(size=24), "Intercept": rng.normal(8), "sigma": rng.gamma(2)},
    "earnings-logearn_height": lambda rng: {"beta": rng.normal([6, 0.06], [1, 0.02]), "sigma": rng.gamma(2)},
    "eight_schools-eight_schools_centered": lambda rng: {
        "theta": rng.normal(5, 5, size=8),
        "mu": rng.normal(5, 5),
        "tau": rng.gamma(2),
    },
    "eight_schools-eight_schools_noncentered": lambda rng: {
        "theta_trans": rng.normal(size=8),
        "mu": rng.normal(5, 5),
        "tau": rng.gamma(2),
    },
    "garch-garch11": lambda rng: {"mu": rng.normal(5), "alpha0": rng.gamma(2), **shares(rng)},
    "gp_pois_regr-gp_pois_regr": lambda rng: {
        "rho": rng.uniform(2, 4),  # beyond, the covariance is singular but for its jitter, and rounding shows
        "alpha": rng.gamma(2),
        "f_tilde": rng.normal(size=11),
    },
    "hmm_example-hmm_example": lambda rng: {
        "theta1": rng.dirichlet([1, 1]),
        "theta2": rng.dirichlet([1, 1]),
        "mu": rng.normal([3, 9]),
    },
    "kidiq-kidscore_interaction": lambda rng: {
        "beta": rng.normal([-11, 51, 1, -0.5], [9, 9, 0.1, 0.1]),
        "sigma": rng.gamma(18),
    },
    "kidiq-kidscore_momiq": lambda rng: {"beta": rng.normal([26, 0.6], [5, 0.1]), "sigma": rng.gamma(18)},
    "kilpisjarvi_mod-kilpisjarvi": lambda rng: {**kilpisjarvi_line(rng), "sigma": rng.gamma(2)},
    "mesquite-logmesquite_logvas": lambda rng: {"beta": rng.normal(size=7), "sigma": rng.gamma(2)},
    "nes1992-nes": lambda rng: {"beta": rng.normal(size=9), "sigma": rng.gamma(2)},
    "sblrc-blr": lambda rng: {"beta": rng.normal(1, 0.01, size=5), "sigma": rng.gamma(2)},
}


def tensors(values: Values) -> Values:
    return {name: torch.as_tensor(value) if isinstance(value, np.ndarray) else value for name, value in values.items()}


def trace_at(posterior: Posterior, point: Values) -> poutine.Trace:
    """The program's trace at the parameters of the Stan program, discrete sites enumerated."""
    sites = {name: torch.as_tensor(value) for name, value in point.items()}
    if "alpha1" in sites:  # the one program whose sites are others than the parameters
        sites["shares"] = torch.stack([sites["alpha1"], sites["beta1"], 1 - sites.pop("alpha1") - sites.pop("beta1")])
    program = poutine.enum(poutine.condition(posterior.model, sites), first_available_dim=-2)
    return poutine.trace(program).get_trace(**tensors(posterior.data()))


def log_joint(posterior: Posterior, point: Values) -> float:
    trace = trace_at(posterior, point)
    discrete = any(node["infer"].get("enumerate") for node in trace.nodes.values() if node["type"] == "sample")
    return float(TraceEinsumEvaluator(trace, discrete, max_plate_nesting=1).log_prob(trace))


@pytest.mark.parametrize("name", PUBLISHED)
def test_log_joint_is_that_of_the_published_program_up_to_a_constant(name: str) -> None:
    rng, data = np.random.default_rng(7), published_data(name)
    points = [POINTS[name](rng) for _ in range(5)]
    mine = np.array([log_joint(GALLERY[name], point) for point in points])
    theirs = np.array([TRUTHS[name](data, point) for point in points])
    assert np.ptp(theirs) > 1
    np.testing.assert_allclose(np.diff(mine), np.diff(theirs), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_scalar_of_the_reference_is_read_off_the_programs_sites(name: str) -> None:
    point = POINTS[name](np.random.default_rng(7))
    trace = trace_at(GALLERY[name], point)
    sites = {name: node["value"] for name, node in trace.nodes.items() if isinstance(node.get("value"), torch.Tensor)}
    draws = {name: np.asarray(value)[None, None] for name, value in sites.items()}
    scalars = GALLERY[name].scalars(draws)
    assert list(scalars) == list(reference(name).index)
    assert all(value.shape == (1, 1) for value in scalars.values())
    known = known_variables(name, point)
    for scalar, value in scalars.items():
        variable, _, entry = scalar.rstrip("]").partition("[")
        assert value.item() == pytest.approx(known[variable][int(entry) - 1] if entry else known[variable])


def known_variables(name: str, point: Values) -> Values:
    """The variables of the reference at the parameters of the Stan program."""
    if name == "eight_schools-eight_schools_noncentered":
        return {**point, "theta": point["mu"] + point["tau"] * point["theta_trans"]}
    if name == "gp_pois_regr-gp_pois_regr":
        return {**point, "f": gp_f(published_data(name), point)}
    return point


def test_the_gallery_holds_what_is_published() -> None:
    assert tuple(GALLERY) == PUBLISHED
    assert all(name == posterior.name for name, posterior in GALLERY.items())


@pytest.mark.parametrize("name", PUBLISHED)
def test_data_are_float64_or_int64_and_as_long_as_the_published(name: str) -> None:
    published = published_data(name)
    lengths = {published.get(size) for size in ("N", "T", "J")}
    arrays = [value for value in GALLERY[name].data().values() if isinstance(value, np.ndarray)]
    assert arrays
    assert all(len(array) in lengths for array in arrays)
    assert {array.dtype for array in arrays} <= {np.dtype("float64"), np.dtype("int64")}


def test_whole_numbers_are_those_that_the_published_program_counts_or_indexes_with() -> None:
    whole = {
        name: [key for key, value in posterior.data().items() if getattr(value, "dtype", None) == np.int64]
        for name, posterior in GALLERY.items()
    }
    assert {name: keys for name, keys in whole.items() if keys} == {
        "gp_pois_regr-gp_pois_regr": ["k"],
        "nes1992-nes": ["age_discrete"],
    }


@pytest.mark.parametrize("name", PUBLISHED)
def test_reference_has_moments_of_10000_draws_within_their_quantiles(name: str) -> None:
    table = reference(name)
    assert list(table.columns) == ["mean", "sd", "q05", "q50", "q95", "n"]
    assert (table["n"] == 10_000).all()
    assert (table["sd"] > 0).all()
    assert (table["mean"] - table["q50"]).abs().le(table["sd"]).all()  # true of every distribution
    assert table["mean"].between(table["q05"], table["q95"]).all()


@pytest.mark.parametrize("name", ["earnings-logearn_height", "mesquite-logmesquite_logvas", "nes1992-nes"])
def test_reference_of_a_regression_with_flat_priors_is_least_squares(name: str) -> None:
    """With p(beta, sigma) flat beta has mean (X^T X)^-1 X^T y; X is what the published log density is quadratic in."""
    size, data = len(reference(name)) - 1, published_data(name)
    value = lambda beta: TRUTHS[name](data, {"beta": beta, "sigma": 1.0})  # noqa: E731
    unit = np.eye(size)
    gradient = np.array([(value(e) - value(-e)) / 2 for e in unit])
    hessian = np.array([[value(d + e) - value(d) - value(e) + value(0 * e) for e in unit] for d in unit])
    table = reference(name).iloc[:size]
    errors = (np.linalg.solve(-hessian, gradient) - table["mean"]) / (table["sd"] / np.sqrt(table["n"]))
    assert errors.abs().max() < 5


@pytest.mark.parametrize("read", [published_data, reference])
def test_an_unknown_posterior_is_refused_with_the_names_there_are(read: Callable[[str], Any]) -> None:
    with pytest.raises(InputError, match=r"no published posterior is called 'eight_schools'.*sblrc-blr"):
        read("eight_schools")


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9])
def test_first_order_recursion_is_its_loop(length: int) -> None:
    inputs, coefficient = torch.randn(length), torch.tensor(-1.2)
    state, states = torch.tensor(0.0), []
    for value in inputs:
        state = coefficient * state + value
        states.append(state)
    torch.testing.assert_close(first_order(coefficient, inputs), torch.stack(states))


def test_positive_ordered_entries_are_drawn_positive_and_ascending() -> None:
    """P(x_1 < t | 0 < x_1 < x_2) of two standard normals is 1 - (2 (1 - Phi(t)))^2 for t > 0."""
    torch.manual_seed(0)
    ordered = PositiveOrdered(dist.Normal(torch.zeros(2), 1.0), 1).expand([3])
    x = ordered.sample((2000,))
    assert x.shape == (2000, 3, 2)
    assert (x[..., 0] > 0).all()
    assert (x[..., 0] < x[..., 1]).all()
    test = stats.kstest(x[..., 0].flatten().numpy(), lambda t: 1 - (2 * stats.norm.sf(t)) ** 2)
    assert test.pvalue > 1e-4


def test_the_hidden_chain_summed_by_hand_is_the_enumerated_one() -> None:
    posterior = GALLERY["hmm_example-hmm_example"]
    data, _ = data_for(posterior.model, {"y": posterior.data()["y"][:12]})
    summed, enumerated = Density(posterior.model, data), Density(lambda y: posterior.model(y), data)
    with data.isolated(1):
        for point in torch.randn(3, summed.dim):
            torch.testing.assert_close(summed.log_density(point), enumerated.log_density(point), rtol=1e-10, atol=1e-9)
