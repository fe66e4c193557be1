"""Train a VAE by epochs; print its marginal likelihood by every method; write pictures.

examples:
  pyrometer train digits --model vae --latent 2 --guide encoder --out digits
  pyrometer train digits --latent 10 --guide encoder_full --holdout 0.1 --patience 10 --warmup 10 --out digits10
  pyrometer train pictures.csv --white 255 --likelihood bernoulli --label class --out pictures
  pyrometer train digits --latent 2 --epochs 300 --resume --out digits
  pyrometer train molecules.smi --model sequence-vae --warmup 10 --holdout 0.1 --out molecules
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, Series

from ... import datasets, train
from ...display.table import table_of
from ...errors import InputError
from ..compare.columns import DECIMALS, as_text
from ..distributed.launched import launched_rank
from ..fit.importance import GOOD_KHAT
from ..fit.saved import files_of
from ..local_latents.marginal import USUAL
from ..local_latents.row_fit import RowFit
from ..local_latents.target import tells_new, tells_q
from ..plots.latent.codes import plot_latent
from ..plots.latent.decoded import plot_plane, plot_samples
from ..plots.latent.portrait import plot_portrait
from ..plots.latent.reconstructions import plot_completion, plot_interpolation, plot_reconstructions
from ..plots.losses import plot_losses
from ..plots.marginal import plot_marginal
from ..report.fits import training_page
from ..report.pictures import Picture
from ..report.save import INDEX, pictures, tables
from ..runtime.folder import write_all
from ..runtime.interrupts import say_how_it_goes_on
from ..steps.guide_of import NETWORK_LR
from ..svi import checkpoint
from .main import Parser
from .models import add_strings, add_vae, model_of
from .options import STRINGS, add_command, add_data, add_numbers, add_output, positive, rows_of, seed_of, taken
from .strings import report_strings

ROWS = 20  # of which the marginal likelihood is estimated


def add(commands: Any, what: str) -> None:
    """Add the command. what: its line in the list of commands."""
    parser = add_command(commands, "train", _train, __doc__, what)
    add_data(parser, "the held-out ELBO")
    parser.add_argument("--label", metavar="COLUMN", help="what the rows show: colours the latent space, is not fitted")
    group = parser.add_argument_group("guide")
    group.add_argument("--model", choices=["vae", STRINGS], default="vae", help="default: %(default)s")
    group.add_argument("--guide", default="encoder", help="see `pyrometer guides --model vae` (default: %(default)s)")
    add_vae(parser)
    add_strings(parser)
    _add_work(parser)
    output = add_output(parser, "the pictures, the posterior and checkpoints")
    output.add_argument("--resume", action="store_true", help="go on from the checkpoint in DIR")


def _add_work(parser: Parser) -> None:
    group = parser.add_argument_group("work")
    add_numbers(
        group,
        epochs=(None, "at most (default: 100, with held-out rows 1000)"),
        batch_size=(None, "rows a step (default: 128, or a tenth of few rows)"),
        warmup=(0, "epochs until the KL counts in full (default: none)"),
        patience=("auto", "stop after N epochs without a better held-out ELBO; auto is 10 where rows are held out"),
    )
    add = group.add_argument
    add("--lr", type=positive, default=NETWORK_LR, metavar="X", help="of Adam (default: %(default)s)")
    add("--binarize", choices=["fixed", "stochastic"], help="black and white pixels, once or in every epoch anew")
    add("--estimator", default="auto", help="auto, or IWAE (default: %(default)s)")
    add("--seed", type=seed_of, default=0, metavar="N", help="same seed, same numbers (default: %(default)s)")


def _train(options: argparse.Namespace) -> list[Path]:
    """Check what can be checked, train, print, write; what was written."""
    if options.resume and options.out is None:
        raise InputError("--resume needs --out DIR, the folder of the checkpoint")
    if options.out is not None:
        left, hint = Path(options.out) / checkpoint.FILE, f"--resume goes on from the checkpoint in {options.out}"
        say_how_it_goes_on(lambda: hint if left.exists() else "")
    x, x_test = rows_of(options)
    of_strings = options.model == STRINGS
    labels = None if of_strings else _labels(options, x)
    fit = train(model_of(options), options.guide, x, x_test=x_test, checkpoint=options.out, **taken(options, train))
    if launched_rank():  # of several processes the first says and writes what all of them trained
        return []
    said = _summary(fit)
    print(said)
    if of_strings:
        return report_strings(options, fit, x_test, said)
    held_out = x_test if x_test is not None else x
    known = tells_new(fit.guide) and np.isfinite(fit.elbo_draws).all()
    table = fit.marginal_likelihood(held_out[:ROWS], USUAL, seed=options.seed) if known else DataFrame()
    if len(table):
        print(f"\nlog p(x), nats a row, over {min(ROWS, len(held_out))} rows by each method:\n{as_text(table)}")
    if doubted := _doubted(table):
        print(f"k-hat above {GOOD_KHAT}: believe neither nats nor se of {', '.join(doubted)}")
    if options.out is None:
        return []
    draws = _draws(fit, labels, table)
    shown = {"Marginal likelihood, nats a row": table_of(table, DECIMALS)} if len(table) else {}
    index = training_page(said, fit, shown, draws, options.command, options.seed)
    files = {**tables({"marginal": table}), **pictures(draws), INDEX: index}
    return write_all(options.out, {**files_of(fit), **files})


def _summary(fit: RowFit) -> str:
    rows, elbo = len(fit.data.values), fit.elbo_draws
    lines = [f"{fit.name}: ELBO {_nats(elbo.mean() / rows)} after {fit.steps} steps, {fit.seconds:.1f} s"]
    if len(fit.test_losses):
        best = -np.nanmin(fit.test_losses, initial=np.inf)
        lines.append(f"held-out ELBO {_nats(-fit.test_losses[-1])}, the best {_nats(best)}")
    if fit.message:
        lines.append(fit.message)
    return "\n".join(lines)


def _nats(value: float) -> str:
    return f"{value:.2f} nats a row" if np.isfinite(value) else "beyond all numbers"


def _doubted(table: DataFrame) -> list[str]:
    """The methods whose weights have too heavy a tail; the ELBO, a mean of their logs, does without it."""
    return [name for name in table.index if table["khat"][name] > GOOD_KHAT and name != "elbo"]


def _labels(options: argparse.Namespace, x: DataFrame) -> Series | None:
    """The label of each row of x; None where there is none."""
    if options.label is not None and options.data not in datasets.WHITE:
        found = datasets.load(options.data)[options.label]
    elif options.data in datasets.LABELLED:
        found = datasets.labels(options.data)
    else:
        return None
    return found if options.holdout is None else found.iloc[x.index]


def _draws(fit: RowFit, labels: Series | None, table: DataFrame) -> dict[str, Picture]:
    """Every picture by the name of its file."""
    draws: dict[str, Any] = {"samples": partial(plot_samples, fit), "training": partial(plot_losses, fit)}
    if tells_q(fit.guide):
        draws |= {"plane": partial(plot_plane, fit), "latent": partial(plot_latent, fit, labels)}
        draws["reconstructions"] = partial(plot_reconstructions, fit)
        draws["portrait"] = partial(plot_portrait, fit, labels)
    if tells_new(fit.guide):
        rows = fit.rows()[:10]
        pairs = list(zip(rows[:-1:2], rows[1::2], strict=True))
        draws["interpolation"] = partial(plot_interpolation, fit, pairs)
        upper = np.arange(rows[0].size).reshape(rows.shape[1:]) < rows[0].size // 2  # half of a picture
        draws["completion"] = partial(plot_completion, fit, rows, np.broadcast_to(upper, rows.shape))
    if len(table):
        draws["marginal"] = partial(plot_marginal, table)
    return {f"{name}.png": Picture(draw) for name, draw in draws.items()}
