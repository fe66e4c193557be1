"""The families over the weights of a mixture: Dirichlet, and Beta sticks with a Gamma over their concentration."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import brentq
from scipy.special import digamma
from torch import Tensor
from torch.distributions import Beta, Dirichlet, Gamma, kl_divergence

from ...models import BayesianGMM, DirichletProcessGMM
from ...models.dirichlet_process_gmm import stick_weights


@dataclass(frozen=True, eq=False)
class DirichletWeights:
    """Dirichlet(weights | concentration). concentration: (K,)."""

    concentration: Tensor

    def updated(self, counts: Tensor) -> DirichletWeights:
        """The posterior, this being the prior, given so many rows of each component (Bishop 2006, eq. 10.58)."""
        return DirichletWeights(self.concentration + counts)

    def order(self, counts: Tensor) -> Tensor:
        """The order of the components with the highest bound, (K,): the one given, since all have the same."""
        return torch.arange(len(counts), device=counts.device)

    def expected_log(self) -> Tensor:
        """E[log weights] (eq. 10.66): (K,)."""
        return self.concentration.digamma() - self.concentration.sum().digamma()

    def kl(self, prior: DirichletWeights) -> Tensor:
        """KL(this || prior) in nats: ()."""
        return kl_divergence(self._dirichlet, prior._dirichlet)

    def sample(self, draws: int) -> dict[str, Tensor]:
        """Exact draws: (S, K)."""
        return {"weights": self._dirichlet.sample((draws,))}

    def log_prob(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each draw: (S,)."""
        return self._dirichlet.log_prob(sites["weights"])

    def log_weights(self, sites: dict[str, Tensor]) -> Tensor:
        """log weights of each draw: (S, K)."""
        return sites["weights"].log()

    def params(self) -> dict[str, Tensor]:
        """This as trained parameters of the guide `structured`."""
        return {"weights_concentration": self.concentration}

    @property
    def _dirichlet(self) -> Dirichlet:
        return Dirichlet(self.concentration)


@dataclass(frozen=True, eq=False)
class StickWeights:
    """prod_t Beta(sticks_t | own_t, behind_t), times Gamma(alpha | shape, rate) where alpha is random.

    own, behind: (T - 1,). gamma: shape and rate, each (), None where alpha is fixed. given_alpha: whether alpha is to
    be added to behind, as in a prior of random alpha, whose sticks depend on it; in q they do not.
    """

    own: Tensor
    behind: Tensor
    gamma: tuple[Tensor, Tensor] | None = None
    given_alpha: bool = False

    def updated(self, counts: Tensor) -> StickWeights:
        """The best q(sticks) q(alpha) for so many rows of each component, this being the prior.

        Sticks: Blei and Jordan 2006, eqs. 18 and 19. alpha: their appendix, solved together with the sticks.
        """
        own, behind = self.own + counts[:-1], self.behind + counts.flip(0).cumsum(0).flip(0)[1:]
        if self.gamma is None:
            return StickWeights(own, behind)
        shape, rate = self.gamma[0] + len(own), self.gamma[1]
        alpha = own.new_tensor(_mean_concentration(own, behind, float(shape), float(rate)))
        return StickWeights(own, behind + alpha, (shape, shape / alpha))

    def order(self, counts: Tensor) -> Tensor:
        """The order of the components by falling counts where it has a higher bound than the order given: (T,).

        Sticks expect earlier components to be larger (Kurihara, Welling and Teh 2007).
        """
        given, falling = torch.arange(len(counts), device=counts.device), counts.argsort(descending=True, stable=True)
        return falling if self._gain(counts[falling]) > self._gain(counts) else given

    def _gain(self, counts: Tensor) -> Tensor:
        """What the weights give to the bound at their best q: ()."""
        q = self.updated(counts)
        return (counts * q.expected_log()).sum() - q.kl(self)

    def expected_log(self) -> Tensor:
        """E[log weights] (the paper's appendix): (T,)."""
        zero, whole = self.own.new_zeros(1), (self.own + self.behind).digamma()
        broken = torch.cat([self.own.digamma() - whole, zero])
        return broken + torch.cat([zero, (self.behind.digamma() - whole).cumsum(0)])

    def kl(self, prior: StickWeights) -> Tensor:
        """KL(this || prior) in nats, of the sticks a mean over q(alpha): ()."""
        beta = self._beta(self.behind)
        if self.gamma is None or prior.gamma is None:
            return kl_divergence(beta, prior._beta(prior.behind)).sum()
        shape, rate = self.gamma
        log_left = self.behind.digamma() - (self.own + self.behind).digamma()  # E[log(1 - sticks_t)]
        expected = len(self.own) * (shape.digamma() - rate.log()) + (shape / rate - 1) * log_left.sum()
        return kl_divergence(Gamma(*self.gamma), Gamma(*prior.gamma)) - beta.entropy().sum() - expected

    def sample(self, draws: int) -> dict[str, Tensor]:
        """Exact draws: sticks (S, T - 1), and concentration (S,) where it is random."""
        sites = {} if self.gamma is None else {"concentration": Gamma(*self.gamma).sample((draws,))}
        return sites | {"sticks": self._beta(self._behind(sites)).sample(() if self.given_alpha else (draws,))}

    def log_prob(self, sites: dict[str, Tensor]) -> Tensor:
        """The log density of each draw: (S,)."""
        of_sticks = self._beta(self._behind(sites)).log_prob(sites["sticks"]).sum(-1)
        return of_sticks if self.gamma is None else of_sticks + Gamma(*self.gamma).log_prob(sites["concentration"])

    def log_weights(self, sites: dict[str, Tensor]) -> Tensor:
        """log weights of each draw: (S, T)."""
        return stick_weights(sites["sticks"]).log()

    def params(self) -> dict[str, Tensor]:
        """This as trained parameters of the guide `structured`."""
        sticks = {"sticks_concentration1": self.own, "sticks_concentration0": self.behind}
        names = ("concentration_shape", "concentration_rate")
        return sticks | dict(zip(names, self.gamma or (), strict=False))

    def _behind(self, sites: dict[str, Tensor]) -> Tensor:
        return self.behind + sites["concentration"].unsqueeze(-1) if self.given_alpha else self.behind

    def _beta(self, behind: Tensor) -> Beta:
        return Beta(self.own.expand(behind.shape), behind)


Weights = DirichletWeights | StickWeights


def weights_prior(model: BayesianGMM, concentration: Tensor) -> Weights:
    """The prior of a model's weights. concentration: (K,)."""
    if not isinstance(model, DirichletProcessGMM):
        return DirichletWeights(concentration)
    ones = torch.ones_like(concentration[1:])
    if model.concentration_prior is None:
        return StickWeights(ones, concentration[1:])
    shape, rate = concentration.new_tensor(model.concentration_prior)
    return StickWeights(ones, torch.zeros_like(ones), (shape, rate), given_alpha=True)


def _mean_concentration(own: Tensor, behind: Tensor, shape: float, rate: float) -> float:
    """m = E[alpha] where q(sticks) = Beta(own, behind + m) and q(alpha) are each best for the other: of m, the root of

    m (rate - sum_t E[log(1 - sticks_t)]) = shape, whose left side rises in m, so that there is one.
    """
    sizes, behind_rows = own.cpu().numpy(), behind.cpu().numpy()

    def excess(log_m: float) -> float:
        rest = behind_rows + np.exp(log_m)
        return float(np.exp(log_m) * (rate + (digamma(sizes + rest) - digamma(rest)).sum()) - shape)

    highest = np.log(shape / rate)
    return float(np.exp(brentq(excess, highest - 600, highest + 1e-9, xtol=1e-14)))
