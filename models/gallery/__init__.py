"""Published posteriors as Pyro programs, for which the answer is known."""

from .gaussian_process import gp_pois_regr
from .hierarchical import eight_schools_centered, eight_schools_noncentered
from .posterior import Posterior
from .regression import (
    blr,
    diamonds,
    kidscore_interaction,
    kidscore_momiq,
    kilpisjarvi,
    logearn_height,
    logmesquite_logvas,
    nes,
)
from .series import arK, arma11, garch11, hmm

__all__ = ["GALLERY", "Posterior"]

GALLERY: dict[str, Posterior] = {
    posterior.name: posterior
    for posterior in (
        Posterior("arK-arK", arK),
        Posterior("arma-arma11", arma11),
        Posterior("diamonds-diamonds", diamonds, lambda data: {"X": data["X"][:, 1:], "y": data["Y"]}),
        Posterior("earnings-logearn_height", logearn_height),
        Posterior("eight_schools-eight_schools_centered", eight_schools_centered),
        Posterior("eight_schools-eight_schools_noncentered", eight_schools_noncentered),
        Posterior("garch-garch11", garch11),
        Posterior("gp_pois_regr-gp_pois_regr", gp_pois_regr),
        Posterior("hmm_example-hmm_example", hmm),
        Posterior("kidiq-kidscore_interaction", kidscore_interaction),
        Posterior("kidiq-kidscore_momiq", kidscore_momiq),
        Posterior(
            "kilpisjarvi_mod-kilpisjarvi",
            kilpisjarvi,
            lambda data: {
                "year": data["x"],
                "temperature": data["y"],
                "alpha_loc": data["pmualpha"],
                "alpha_scale": data["psalpha"],
                "beta_loc": data["pmubeta"],
                "beta_scale": data["psbeta"],
            },
        ),
        Posterior("mesquite-logmesquite_logvas", logmesquite_logvas),
        Posterior("nes1992-nes", nes),
        Posterior("sblrc-blr", blr),
    )
}
"""By the names of posteriordb, which are those of `pyrometer.datasets.PUBLISHED`."""
