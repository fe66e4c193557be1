"""Models as people bring them, with published data, as users of Pyro, NumPyro and PyMC write each."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from peers.problems import two_bumps

__all__ = ["CASES", "in_numpyro", "in_pymc", "in_pyro", "inputs", "published"]

FOLDER = Path(__file__).parents[2] / "datasets" / "posteriordb"  # read here, so that a peer need not load us
CASES = {  # name -> the published posterior; the mixture is our own
    "eight schools": "eight_schools-eight_schools_noncentered",
    "kidscore": "kidiq-kidscore_momiq",
    "logearn": "earnings-logearn_height",
    "mesquite": "mesquite-logmesquite_logvas",
    "nes": "nes1992-nes",
    "blr": "sblrc-blr",
    "arK": "arK-arK",
    "mixture": "",
}


def _file(case: str) -> dict[str, Any]:
    return json.loads(gzip.decompress((FOLDER / f"{CASES[case]}.json.gz").read_bytes()))


def published(case: str) -> dict[str, dict[str, float]]:
    """The published moments, scalar -> mean, sd; of what was made here, nothing."""
    return _file(case)["reference"] if CASES[case] else {}


def inputs(case: str) -> dict[str, np.ndarray]:
    """The data of a case for NumPyro and PyMC: a design matrix X and outcomes y, where it is a regression."""
    if case == "mixture":
        return {"y": two_bumps(1000)}
    d = {name: np.asarray(value, float) for name, value in _file(case)["data"].items()}
    if case == "eight schools":
        return {"y": d["y"], "sigma": d["sigma"]}
    if case == "kidscore":
        return {"X": _columns(d["mom_iq"]), "y": d["kid_score"]}
    if case == "logearn":
        return {"X": _columns(d["height"]), "y": np.log(d["earn"])}
    if case == "mesquite":
        area = d["diam1"] * d["diam2"]
        volume, shape = area * d["canopy_height"], d["diam1"] / d["diam2"]
        logs = np.log([volume, area, shape, d["total_height"], d["density"]])
        return {"X": _columns(*logs, d["group"]), "y": np.log(d["weight"])}
    if case == "nes":
        ages = [(d["age_discrete"] == age).astype(float) for age in (2, 3, 4)]
        rest = (d["educ1"], d["gender"], d["income"])
        return {"X": _columns(d["real_ideo"], d["race_adj"], *ages, *rest), "y": d["partyid7"]}
    if case == "blr":
        return {"X": d["X"], "y": d["y"]}
    y, order = d["y"], int(d["K"])
    return {"X": np.stack([y[order - k : len(y) - k] for k in range(1, order + 1)], -1), "y": y[order:]}


def _columns(*columns: np.ndarray) -> np.ndarray:
    """Columns behind one of ones."""
    return np.stack([np.ones_like(columns[0]), *columns], -1)


def in_pyro(case: str) -> tuple[Callable[..., None], Any]:
    """The Pyro program of the gallery, and its data."""
    if CASES[case]:
        from pyrometer.models.gallery import GALLERY

        return GALLERY[CASES[case]].model, GALLERY[CASES[case]].data()
    import pyro
    import pyro.distributions as dist
    import torch

    def mixture(y: torch.Tensor) -> None:
        theta = pyro.sample("theta", dist.Beta(5.0, 5.0))
        low, gap = pyro.sample("low", dist.Normal(0.0, 5.0)), pyro.sample("gap", dist.HalfNormal(5.0))
        sigma = pyro.sample("sigma", dist.HalfNormal(2.0).expand([2]).to_event(1))
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Categorical(torch.stack([theta, 1 - theta])))
            pyro.sample("y", dist.Normal(torch.stack([low, low + gap])[z], sigma[z]), obs=y)

    return mixture, inputs(case)["y"]


def in_numpyro(case: str) -> Callable[..., None]:
    """The NumPyro program, a function of `inputs`."""
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist
    from numpyro.distributions import constraints

    sample = numpyro.sample

    def eight_schools(y: Any, sigma: Any) -> None:
        mu, tau = sample("mu", dist.Normal(0, 5)), sample("tau", dist.HalfCauchy(5))
        theta = sample("theta_trans", dist.Normal(0, 1).expand([len(y)]))
        sample("y", dist.Normal(mu + tau * theta, sigma), obs=y)

    def regression(X: Any, y: Any) -> None:
        flat = dist.ImproperUniform(constraints.real_vector, (), (X.shape[1],))
        beta = sample("beta", dist.Normal(0, 10).expand([X.shape[1]]) if case in ("blr", "arK") else flat)
        alpha = sample("alpha", dist.Normal(0, 10)) if case == "arK" else 0
        scale = {"kidscore": dist.HalfCauchy(2.5), "arK": dist.HalfCauchy(2.5), "blr": dist.HalfNormal(10)}
        sigma = sample("sigma", scale.get(case, dist.ImproperUniform(constraints.positive, (), ())))
        sample("y", dist.Normal(alpha + X @ beta, sigma), obs=y)

    def mixture(y: Any) -> None:
        theta = sample("theta", dist.Beta(5, 5))
        low, gap = sample("low", dist.Normal(0, 5)), sample("gap", dist.HalfNormal(5))
        sigma = sample("sigma", dist.HalfNormal(2).expand([2]))
        weights, locs = jnp.stack([theta, 1 - theta]), jnp.stack([low, low + gap])
        sample("y", dist.MixtureSameFamily(dist.Categorical(weights), dist.Normal(locs, sigma)), obs=y)

    written: dict[str, Callable[..., None]] = {"eight schools": eight_schools, "mixture": mixture}
    return written.get(case, regression)


def in_pymc(case: str) -> Any:
    """The PyMC model of `inputs`."""
    import pymc as pm

    d = inputs(case)
    with pm.Model() as model:
        if case == "eight schools":
            mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
            theta = pm.Normal("theta_trans", 0, 1, shape=len(d["y"]))
            pm.Normal("y", mu + tau * theta, d["sigma"], observed=d["y"])
        elif case == "mixture":
            theta = pm.Beta("theta", 5, 5)
            low, gap, sigma = pm.Normal("low", 0, 5), pm.HalfNormal("gap", 5), pm.HalfNormal("sigma", 2, shape=2)
            locs = pm.math.stack([low, low + gap])
            pm.NormalMixture("y", pm.math.stack([theta, 1 - theta]), locs, sigma, observed=d["y"])
        else:
            size = d["X"].shape[1]
            own = case in ("blr", "arK")
            beta = pm.Normal("beta", 0, 10, shape=size) if own else pm.Flat("beta", shape=size)
            alpha = pm.Normal("alpha", 0, 10) if case == "arK" else 0
            if case == "blr":
                sigma = pm.HalfNormal("sigma", 10)
            else:
                sigma = pm.HalfCauchy("sigma", 2.5) if case in ("kidscore", "arK") else pm.HalfFlat("sigma")
            pm.Normal("y", alpha + d["X"] @ beta, sigma, observed=d["y"])
    return model
