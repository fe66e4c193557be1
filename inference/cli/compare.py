"""Fit several guides and a reference to one data set, and print a table of how far each is off.

examples:
  pyrometer compare faithful --components 2 --out faithful
  pyrometer compare measurements.csv --columns width,length --components 3 --holdout 0.2
  pyrometer compare galaxies --components 3 --guides structured,auto_mvn,auto_iaf --draws 2000
  pyrometer compare digits --model vae --latent 2 --guides encoder,encoder_full,free --steps 4000
  pyrometer compare iris --model gmm --components 3 --covariance tied --methods em,svi
  pyrometer compare galaxies --components 3 --out galaxies --resume      what was finished there is taken
"""

import argparse
from pathlib import Path
from typing import Any

from ... import compare
from ...errors import InputError
from ...guides import defaults
from ...models import GMM
from ..report.page import check_page
from ..resume.finished import unfinished_fits
from ..runtime.interrupts import asked_to_end, say_how_it_goes_on
from ..svi.fitted import trained
from .main import Parser
from .models import COMPARED, add_strings, add_vae, model_of
from .options import add_command, add_data, add_jobs, add_numbers, add_output, names, rows_of, seed_of, taken

COMPILE: dict[str, Any] = {"auto": "auto", "yes": True, "no": False}


def add(commands: Any, what: str) -> None:
    """Add the command. what: its line in the list of commands."""
    parser = add_command(commands, "compare", _compare, __doc__, what)
    add_data(parser)
    _add_model(parser)
    add_vae(parser)
    add_strings(parser)
    _add_work(parser)
    output = add_output(parser, "the table, the posteriors (NetCDF), pictures and the report, index.html,")
    output.add_argument("--report", metavar="FILE", help="write the report alone, one HTML file that needs no network")
    output.add_argument("--resume", action="store_true", help="take from DIR the fits that are finished, and go on")


def _add_model(parser: Parser) -> None:
    group = parser.add_argument_group("model and guides")
    add = group.add_argument
    add("--model", choices=COMPARED, default="bayesian-gmm", help="default: %(default)s")
    add_numbers(group, components=(2, "of a mixture"))
    add("--covariance", default="full", help="full, diagonal, tied or spherical (default: %(default)s)")
    add("--guides", type=names, metavar="A,B", help="see `pyrometer guides` (default: those with a star there)")
    add(
        "--methods",
        type=names,
        default=["svi"],
        metavar="A,B",
        help="svi (default), nuts, laplace, pathfinder, dadvi, bam, em, cavi",
    )
    add("--reference", help="one of the methods or guides, or none (default: nuts, or none for gmm)")
    add_numbers(group, rows=(20, "of a VAE, for NUTS over z"))
    add("--checkpoint", metavar="DIR", help="of a VAE: the decoder and guide that `pyrometer train` left there")


def _add_work(parser: Parser) -> None:
    group = parser.add_argument_group("work")
    add_numbers(
        group,
        steps=("auto", "of each guide's training: auto goes on until they gain nothing"),
        starts=(3, "of each guide; the best goes on"),
        draws=("auto", "from each guide and each chain: auto is 1000, and of chains as many as it takes"),
        warmup=(500, "steps of each chain before its draws"),
        chains=(4, "of NUTS"),
        batch_size=(None, "rows a training step (default: all)"),
    )
    add_jobs(group, "guides fitted")
    what = "the steps: auto weighs time to compile (default: %(default)s)"
    group.add_argument("--compile", choices=COMPILE, default="auto", help=what)
    what = "same seed, same table (default: %(default)s)"
    group.add_argument("--seed", type=seed_of, default=0, metavar="N", help=what)


def _compare(options: argparse.Namespace) -> list[Path]:
    """Check what can be checked, fit, print, write; what was written."""
    if options.resume and options.out is None:
        raise InputError("--resume needs --out DIR, the folder of the finished fits")
    if options.report is not None:
        check_page(options.report)
    if options.out is not None:
        hint = f"what is finished is kept, without scores and pictures; --resume goes on from {options.out}"
        say_how_it_goes_on(lambda: hint if unfinished_fits(options.out) else "")
    x, x_test = rows_of(options)
    model, guides = model_of(options), options.guides
    if options.checkpoint is not None:
        if not hasattr(model, "restored"):
            raise InputError(f"--checkpoint is for --model vae or sequence-vae, not {options.model}: leave it out")
        left = trained(options.checkpoint, model, x)
        model, guides = left.model, {name: name for name in guides or defaults(model)} | {left.name: left}
    usual = "none" if isinstance(model, GMM) else "nuts"  # maximum likelihood has no posterior
    reference = options.reference or usual
    named = {"reference": None if reference == "none" else reference, "compile": COMPILE[options.compile]}
    comparison = compare(model, x, guides, x_test=x_test, folder=options.out, **{**taken(options, compare), **named})
    print(comparison)
    if asked_to_end() and options.out is not None:
        return []
    if options.report is not None:
        print(f"\nreport written to {comparison.report(options.report, command=options.command)}")
    return [] if options.out is None else comparison.save(options.out, command=options.command)
