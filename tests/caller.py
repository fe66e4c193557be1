"""What belongs to the caller of a function: generators, the param store, torch's and Pyro's settings, and more."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pyro
import pyro.distributions as dist
import torch
from pyro.poutine import runtime


def state() -> dict[str, Any]:
    """All of it, to be compared with what it was."""
    return {
        "torch": torch.get_rng_state().numpy().tobytes(),
        "numpy": tuple(map(str, np.random.get_state())),  # noqa: NPY002
        "python": random.getstate(),
        "dtype": torch.get_default_dtype(),
        "threads": torch.get_num_threads(),
        "params": {name: value.tolist() for name, value in pyro.get_param_store().items()},
        "handlers": list(runtime._PYRO_STACK),
        "validation": (dist.torch_distribution.torch.distributions.Distribution._validate_args, pyro.settings.get()),
        "gradients": torch.is_grad_enabled(),
        "folder": Path.cwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)],
        "style": dict(plt.rcParams),
    }
