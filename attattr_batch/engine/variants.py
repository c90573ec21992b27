"""Other paths, baselines and weights of the attribution integral, by the criteria of heads that they give.

The paper (equation 3) scales all heads of a layer together from zero to what they are, and weighs every alpha
alike. Each of these changes one of the three:

- `attattr_uniform`: from uniform attention over the real tokens. With U for it, Attr = (A - U) * (G V^T).
- `attattr_mean`: from the mean context of each head over some rows of the dataset (`engine.means`). One
  signed number a head, <G_h, ctx_h - mean_h>, and no matrix of tokens by tokens.
- `attattr_head`: each head is scaled alone, the others stay as they are. So each head has an integral and a
  certificate of its own, and its Attr adds up to what removing this head alone does: F(A) - F(without h).
- `attattr_idg`: integrated decision gradients (Walker et al. 2024): the gradient at alpha counts by how fast
  F rises there, Attr = A * ([integral of dF/dalpha dF/dctx] V^T). Its sum promises nothing.

G is the integral of dF/dctx over alpha. Imports no torch, because whoever asks for answers need not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PATHS_VERSION = 1
"""Raised whenever the criteria here, or mean contexts, get other numbers; part of the key of a request for
them."""

MOST_MEAN_ROWS = 256
"""Rows over which mean contexts may be taken: each worker runs them once, and they travel with its work."""


@dataclass(frozen=True)
class PathVariant:
    """How context vectors move as alpha goes from 0 to 1, and how alphas are weighed.

    Attributes:
        baseline: Where they start: `zero` (paper), `uniform` attention over real tokens, or the `mean`
            context of each head.
        path: `layer` (paper): all heads of a layer together; `head`: each head alone.
        weights: `ig` (paper): all alphas alike; `idg`: by dF/dalpha.
    """

    baseline: Literal["zero", "uniform", "mean"] = "zero"
    path: Literal["layer", "head"] = "layer"
    weights: Literal["ig", "idg"] = "ig"


CRITERIA = {
    "attattr_uniform": PathVariant(baseline="uniform"),
    "attattr_mean": PathVariant(baseline="mean"),
    "attattr_head": PathVariant(path="head"),
    "attattr_idg": PathVariant(weights="idg"),
}
"""The variants that can be requested, by criterion."""
