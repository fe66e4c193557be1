"""Every model and every guide of the package shows itself, as does what is no more than a function."""

import re
from typing import Any

import pytest
from pyrometer.display.objects import described, description
from pyrometer.guides import AUTO, CATALOGUE
from pyrometer.models import GMM, VAE, BayesianGMM, CorrelatedGaussian, DirichletProcessGMM, LabelledVAE, SequenceVAE
from pyrometer.models import UnivariateMixture as Univariate
from pyrometer.models.gallery import GALLERY

MODELS: dict[type, Any] = {kind: kind(components=2) for kind in (GMM, BayesianGMM, DirichletProcessGMM, Univariate)}
MODELS |= {CorrelatedGaussian: CorrelatedGaussian(), VAE: VAE(2), SequenceVAE: SequenceVAE(2)}
MODELS |= {LabelledVAE: LabelledVAE(2, labels=3)}


@pytest.mark.parametrize("kind", CATALOGUE, ids=lambda kind: kind.__name__)
def test_a_model_and_its_guides_show_their_names_and_parameters(kind: type) -> None:
    model = MODELS[kind]
    assert f"<strong>{kind.__name__}</strong>" in model._repr_html_()
    for name, factory in CATALOGUE[kind].items():
        if name not in AUTO:  # which are Pyro's own
            guide: Any = factory(model)
            html = guide._repr_html_()
            assert f"<strong>{type(guide).__name__}</strong>" in html
            assert re.search(r'<th scope="row">model</th>.*' + kind.__name__, html)


def test_a_parameter_has_its_value_and_what_its_docstring_says() -> None:
    said = description(BayesianGMM(components=3, covariance="tied"))
    assert said.summary == "Bayesian Gaussian mixture (Bishop 2006, eqs. 10.37 to 10.40)."
    assert "weights ~ Dirichlet" in said.details
    assert "Parameters" not in said.details
    assert said.parameters["components"] == ("3", "K.")
    assert said.parameters["covariance"] == ("'tied'", "full, diagonal, tied or spherical.")
    assert said.parameters["df"][1].startswith("The prior. The default is weak")  # shared by several
    assert description(VAE(2)).parameters["device"][1].startswith("where they are")  # the second of a line
    assert "networks" not in description(VAE(2)).parameters  # hidden in the text too


def test_a_gallery_posterior_and_a_function_show_themselves() -> None:
    def mine(x: Any) -> None:
        """A model of mine <b>."""

    assert "eight_schools_centered" in GALLERY["eight_schools-eight_schools_centered"]._repr_html_()
    assert "A model of mine &lt;b&gt;." in described(mine)


def test_values_are_escaped_and_cut() -> None:
    class Mine:
        def __init__(self, text: str) -> None:
            self.text = text

    html = described(Mine("<script>" + 1000 * "x"))
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert len(html) < 5000


def test_of_pyros_own_guides_the_first_lines_are_shown_without_markup() -> None:
    said = description(AUTO["auto_normal"](GMM(2)))
    assert said.summary.startswith("This implementation of AutoGuide uses a Normal distribution")
    assert said.details == ""
