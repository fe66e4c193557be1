"""A VAE of strings on the command line: its options, and what `pyrometer train` prints and writes of it."""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from pandas import DataFrame

from ... import score_strings
from ...display.table import Table, table_of
from ..compare.columns import DECIMALS
from ..fit.saved import files_of
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_new, tells_q
from ..plots.latent.codes import plot_latent
from ..plots.latent.decoded import plot_samples
from ..plots.latent.portrait import plot_portrait
from ..plots.latent.reconstructions import plot_interpolation, plot_reconstructions
from ..plots.losses import plot_losses
from ..report.fits import training_page
from ..report.pictures import Picture
from ..report.save import INDEX, pictures, tables
from ..runtime.folder import write_all

SAMPLES = 1000


def report_strings(options: argparse.Namespace, fit: RowFit, x_test: DataFrame | None, said: str) -> list[Path]:
    """Print the scores of a training, write them, samples, pictures and report; what was written. said: its summary."""
    files: dict[str, Any] = {}
    shown: dict[str, Table] = {}
    if tells_q(fit.guide):
        held_out = x_test if tells_new(fit.guide) else None
        scores = score_strings(fit, held_out, samples=SAMPLES, seed=options.seed)
        print(f"\n{scores}")
        files, shown = tables({"scores": scores.table}), {"Scores": table_of(scores.table, DECIMALS)}
    if options.out is None:
        return []
    drawn = "\n".join(fit.sample(SAMPLES, options.seed))
    files["samples.txt"] = lambda file: file.write(f"{drawn}\n".encode())
    draws = _draws(fit)
    files[INDEX] = training_page(said, fit, shown, draws, options.command, options.seed)
    return write_all(options.out, {**files_of(fit), **files, **pictures(draws)})


def _draws(fit: RowFit) -> dict[str, Picture]:
    """Every picture by the name of its file."""
    draws: dict[str, Any] = {"training": partial(plot_losses, fit), "samples": partial(plot_samples, fit)}
    if tells_q(fit.guide):
        draws |= {"latent": partial(plot_latent, fit), "portrait": partial(plot_portrait, fit)}
        draws["reconstructions"] = partial(plot_reconstructions, fit)
    if tells_new(fit.guide):
        rows = fit.rows()[:4]
        pairs: Any = list(zip(rows[:-1:2], rows[1::2], strict=True))
        draws["interpolation"] = partial(plot_interpolation, fit, pairs)
    return {f"{name}.png": Picture(draw) for name, draw in draws.items()}
