"""A VAE of strings on the command line: its options, and what `pyrometer train` prints and writes of it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pandas import DataFrame

from ... import score_strings
from ..compare.save import pictures, tables
from ..fit.saved import files_of
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_new, tells_q
from ..plots import latent, plot_losses
from ..runtime.folder import write_all

SAMPLES = 1000


def report_strings(options: argparse.Namespace, fit: RowFit, x_test: DataFrame | None) -> list[Path]:
    """Print the scores of a training, write them, samples and pictures; what was written."""
    files: dict[str, Any] = {}
    if tells_q(fit.guide):
        held_out = x_test if tells_new(fit.guide) else None
        scores = score_strings(fit, held_out, samples=SAMPLES, seed=options.seed)
        print(f"\n{scores}")
        files = tables({"scores": scores.table})
    if options.out is None:
        return []
    drawn = "\n".join(fit.sample(SAMPLES, options.seed))
    files["samples.txt"] = lambda path: path.write_text(f"{drawn}\n", encoding="utf-8")
    return write_all(options.out, {**files_of(fit), **files, **pictures(_draws(fit))})


def _draws(fit: RowFit) -> dict[str, Any]:
    """Every picture by the name of its file."""
    draws: dict[str, Any] = {"training": partial(plot_losses, fit), "samples": partial(latent.plot_samples, fit)}
    if tells_q(fit.guide):
        draws |= {"latent": partial(latent.plot_latent, fit), "portrait": partial(latent.plot_portrait, fit)}
        draws["reconstructions"] = partial(latent.plot_reconstructions, fit)
    if tells_new(fit.guide):
        rows = fit.rows()[:4]
        pairs: Any = list(zip(rows[:-1:2], rows[1::2], strict=True))
        draws["interpolation"] = partial(latent.plot_interpolation, fit, pairs)
    return {f"{name}.png": draw for name, draw in draws.items()}
