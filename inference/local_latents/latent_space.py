"""The latent space as data: clusters of rows, and the encoder as a transformer of scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from pyro import poutine
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Size, Tensor
from torch.distributions import MixtureSameFamily

from ...errors import InputError
from ...models import BayesianGMM
from ..closed_form.cavi import cavi
from ..plots.latent.codes import plot_clusters

if TYPE_CHECKING:
    from .row_fit import RowFit
    from .target import Target

DRAWS = 100  # of q(z | x), over which p(k | x) is a mean


@dataclass(frozen=True)
class Clusters:
    """Rows in clusters by their latent vectors.

    probabilities: p(k | x) of each row, a DataFrame (M, K). z: the means of q(z | x), (M, latent). how: what found
    them. labels: what the rows are known to be, (M,), or None; then ari and nmi, the adjusted Rand index and the
    normalised mutual information, are NaN.
    """

    probabilities: pd.DataFrame
    z: np.ndarray
    how: str
    labels: pd.Series | None = None

    @property
    def most_probable(self) -> pd.Series:
        """The cluster of each row: a Series (M,)."""
        return self.probabilities.idxmax(axis=1).rename("cluster")

    @property
    def ari(self) -> float:
        """1 where clusters and labels part the rows alike, 0 on average by chance (Hubert and Arabie 1985)."""
        return np.nan if self.labels is None else float(adjusted_rand_score(self.labels, self.most_probable))

    @property
    def nmi(self) -> float:
        """What clusters and labels tell of each other, from 0 to 1."""
        return np.nan if self.labels is None else float(normalized_mutual_info_score(self.labels, self.most_probable))

    def plot(self) -> Figure:
        """The rows in the latent plane, coloured by cluster, and by label where labels are known."""
        return plot_clusters(self)


def clusters_of(fit: RowFit, components: int | None, labels: Any = None, seed: int = 0) -> Clusters:
    """Clusters of the rows that were fitted.

    components: of a BayesianGMM on the means of q(z | x), by coordinate ascent, as many at most; None reads
    p(k | x) = E_q[p(k | z)] off the model's own mixture prior. labels: one a row. Raises InputError where components is
    None and the prior of z is no mixture, or where labels are of another length.
    """
    z, target = fit.encode(), fit.target()
    known = None if labels is None else pd.Series(np.asarray(labels), name=getattr(labels, "name", None))
    if known is not None and len(known) != len(z):
        raise InputError(f"there are {len(known)} labels for {len(z)} rows: give one a row")
    if components is not None:
        how = f"BayesianGMM({components}) on the means of q(z | x)"
        found = cavi(BayesianGMM(components), z.astype(np.float64), draws=10, seed=seed, progress=False)
        return Clusters(found.responsibilities(), z, how, known)
    with target.isolated(seed), torch.no_grad():
        share = torch.cat([_under_prior(block) for block in target.blocks()])
    probabilities = pd.DataFrame(share.cpu().numpy(), columns=pd.RangeIndex(share.shape[1], name="components"))
    return Clusters(probabilities, z, "p(k | x) of the mixture prior", known)


def _under_prior(target: Target) -> Tensor:
    """E_q[p(k | z)] under the mixture that the model draws z from: (M, K)."""
    rows = target.density
    trace = rows.data.run(poutine.trace(rows.density.given({})).get_trace)
    fns = [trace.nodes[place.site.name]["fn"] for place in rows.places]
    if len(fns) != 1 or not isinstance(fns[0], MixtureSameFamily):
        kind = " and ".join(type(fn).__name__ for fn in fns)
        raise InputError(f"the prior of z is no mixture ({kind}): say how many clusters, or train with prior='mixture'")
    z = target.q.sample(Size((DRAWS,)))
    logits = fns[0].component_distribution.log_prob(z.unsqueeze(-2)) + fns[0].mixture_distribution.logits
    return logits.softmax(-1).mean(0)


class LatentFeatures(TransformerMixin, BaseEstimator):
    """A trained encoder and decoder for a pipeline of scikit-learn; `fit` trains nothing.

    trained: a RowFit whose guide has a q(z | x) for new rows.
    """

    def __init__(self, trained: RowFit) -> None:
        self.trained = trained

    def fit(self, x: Any, y: Any = None) -> LatentFeatures:
        """Nothing: what is used was trained before."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, x: Any) -> np.ndarray:
        """E_q[z | x] of each row: (M, latent)."""
        return self.trained.encode(x)

    def inverse_transform(self, z: Any) -> np.ndarray:
        """E[x | z] of each latent vector: (M, *row)."""
        return self.trained.decode(z)

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """z0, z1, ..."""
        return np.array([f"z{unit}" for unit in range(self.trained.latent)], dtype=object)
