"""How far a Fit is from what is known, in Monte Carlo standard errors."""

from __future__ import annotations

import math
import sys
from types import ModuleType
from typing import Any

import arviz as az
import numpy as np
import pytest
from pyrometer import Fit
from pyrometer.inference.runtime.arviz import groups_of
from torch import Tensor

FAR = 5.0  # standard errors
BRIEF: dict[str, Any] = {"steps": 400, "starts": 1, "warmup": 200, "draws": 300, "chains": 2, "progress": False}
CHAINS: dict[str, Any] = {"warmup": 200, "draws": 400, "chains": 2, "progress": False}
TRAINING: dict[str, Any] = {"steps": 800, "lr": 0.02, "draws": 500, "progress": False}
TRAINED = 0.25  # posterior sds by which a mean may miss after so short a training


def means_agree(fit: Fit, name: str, mean: Tensor | float, sd: Tensor | float) -> None:
    """Each entry's posterior mean is the known one, to FAR standard errors; a guide's to TRAINED sds."""
    draws, (truth, width) = fit.idata["posterior"][name].values, _arrays(mean, sd)
    found = draws.reshape(-1, truth.size).mean(0)
    error = FAR * width / np.sqrt(_effective(fit, name, truth.size))
    slack = 0.0 if "sample_stats" in groups_of(fit.idata) else TRAINED * width
    assert (np.abs(found - truth) < error + slack).all(), f"{name}: {found} is not {truth} +- {error + slack}"


def sds_agree(fit: Fit, name: str, sd: Tensor | float) -> None:
    """The posterior sd of each entry is the known one, to FAR of its own standard errors, sd / sqrt(2 ess) or worse."""
    (width,) = _arrays(sd)
    found = fit.idata["posterior"][name].values.reshape(-1, width.size).std(0)
    error = FAR * width / np.sqrt(_effective(fit, name, width.size))
    assert (np.abs(found - width) < error).all(), f"{name}: sd {found} is not {width} +- {error}"


def evidence_agrees(fit: Fit, truth: float) -> None:
    """log p(data) from a guide's weights is the known one, to FAR standard errors of the mean weight."""
    weights = np.exp(fit.log_weights - fit.log_weights.max())
    found = math.log(weights.mean()) + fit.log_weights.max()
    error = FAR * weights.std() / weights.mean() / math.sqrt(len(weights))
    assert abs(found - truth) < error + 1e-3, f"log evidence {found} is not {truth} +- {error}"


def likelihood(fit: Fit, name: str) -> np.ndarray:
    """log_likelihood of a site, draws end to end, further dims of a row summed: (S, N)."""
    values = fit.idata["log_likelihood"][name].values
    values = values.reshape(-1, *values.shape[2:])
    return values.reshape(*values.shape[:2], -1).sum(-1)


def one_line(error: pytest.ExceptionInfo[Any]) -> str:
    """The message of an error, which must be one line."""
    text = str(error.value)
    assert text
    assert "\n" not in text
    return text


def modules() -> list[ModuleType]:
    """Every module of the package that is loaded."""
    return [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "pyrometer"]


def broken(monkeypatch: pytest.MonkeyPatch, *names: str) -> int:
    """Make the package's functions of these names raise, wherever they are held; how many places that was."""

    def breaks(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken on purpose")

    places = 0
    for module in modules():
        for key, value in list(vars(module).items()):
            if key in names and callable(value):
                monkeypatch.setattr(module, key, breaks)
                places += 1
            elif isinstance(value, dict):
                for inner in [inner for inner, held in value.items() if getattr(held, "__name__", "") in names]:
                    monkeypatch.setitem(value, inner, breaks)
                    places += 1
    return places


def _effective(fit: Fit, name: str, size: int) -> np.ndarray:
    """The effective number of draws of each entry; of a guide's independent draws, all of them."""
    values = fit.idata["posterior"][name].values
    if "sample_stats" not in groups_of(fit.idata):
        return np.full(size, values.shape[0] * values.shape[1])
    flat = values.reshape(*values.shape[:2], size)
    bulk, tail = (az.ess(az.convert_to_dataset({"v": flat}), method=kind)["v"].values for kind in ("bulk", "tail"))
    return np.minimum(bulk, tail)


def _arrays(*values: Tensor | float) -> list[np.ndarray]:
    return [np.asarray(value, dtype=float).reshape(-1) for value in values]
