"""Ratings explained by biases and factors, as closed-form solves on arrays.

r = low + (high - low) f(x), x = p·q + b_u + b_i + b, f identity or a sigmoid; the loss is the squared error over the ratings
that there are, with a ridge on factors and biases (Koren, Bell and Volinsky 2009, "Matrix factorization techniques for
recommender systems"), minimised by turns over users and items (Zhou, Wilkinson, Schreiber and Pan 2008, ALS for Netflix).
A row is pulled not to zero but to a prior, a ridge map of its features (as in Agarwal and Chen 2009, "Regression-based latent
factor models"). A row is one vector [p, b] of k + 1 numbers: its bias is the coefficient of a constant 1 in the other side's.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from recspark.config import Settings
from recspark.models.factors import Floats, Rows
from recspark.models.row_solves import Wide, solve_definite

Link = Literal["identity", "sigmoid"]

STEEPNESS = (
    4.0  # of the sigmoid: its slope is then 1 at the middle of the scale, as the identity's, so one ridge does for both
)
HALVINGS = 4
SOLVE_ROWS = 512  # rows whose systems are held at once: 64 MiB in float64 at k = 128


class RatingSettings(Settings):
    """What a solve needs beside the data. A ridge is in units of the scale: 4 on ratings of 1 to 5 is λ = 16 there."""

    embedding_size: int = Field(40, ge=0, le=512, description="k, factors of a user and an item; 0: biases alone")
    link: Link = Field("identity", description="f: identity, clipped to the scale; or sigmoid, which stays within it")
    regularization: float = Field(4.0, gt=0, description="ridge of the factors, where the scale is 1 wide")
    bias_regularization: float = Field(5.0, gt=0, description="ridge of the biases")

    @property
    def penalty(self) -> Wide:
        """(k + 1,) ridge of each number of a row."""
        return np.append(np.full(self.embedding_size, self.regularization), self.bias_regularization)


@dataclass(frozen=True)
class Scale:
    """The least and the greatest rating there can be."""

    low: float
    high: float

    @property
    def width(self) -> float:
        return self.high - self.low


def respond(link: Link, x: Wide) -> tuple[Wide, Wide]:
    """f(x), a share of the scale, and f'(x). The sigmoid is 1 / (1 + exp(-4 x))."""
    if link == "identity":
        return x, np.ones_like(x)
    share = 0.5 * (1.0 + np.tanh(STEEPNESS / 2.0 * x))  # the same, without overflow
    return share, STEEPNESS * share * (1.0 - share)


def start_of(link: Link, mean: float) -> float:
    """b: the x at which f is the mean share; for the sigmoid the mean is kept a thousandth away from 0 and 1."""
    if link == "identity":
        return mean
    inside = min(max(mean, 1e-3), 1.0 - 1e-3)
    return float(np.log(inside / (1.0 - inside)) / STEEPNESS)


def solve_ratings(
    rows: Rows, offset: float, settings: RatingSettings, prior: Floats | None = None, current: Floats | None = None
) -> Floats:
    """(rows, k + 1): for each row the v = [p, b] that lowers Σ (y - f(x))² + Σ_j λ_j (v_j - z_j)², x = p·q + b + b_other + b.

    rows: `weights` are the ratings y as shares of the scale, `source` (columns, k + 1) the other side's [q, b_other]. offset: b.
    The identity's minimum is exact. The sigmoid gets one Gauss-Newton step from `current`: weights f'², targets x + (y - f) / f';
    a row's step is halved while it would raise the row's loss, at most four times, and else not taken. A row without ratings
    is its prior, zero without one.
    """
    k = settings.embedding_size
    known = np.zeros((len(rows), k + 1), np.float32) if prior is None else prior
    here = known if current is None else current
    out, counts = known.copy(), rows.counts
    for start in range(0, len(rows), SOLVE_ROWS):
        chunk = [row for row in range(start, min(start + SOLVE_ROWS, len(rows))) if counts[row]]
        if not chunk:
            continue
        left, right = np.empty((len(chunk), k + 1, k + 1)), np.empty((len(chunk), k + 1))
        for position, row in enumerate(chunk):
            left[position], right[position] = normal_equations(rows, row, offset, here[row], settings.link)
        left[:, np.arange(k + 1), np.arange(k + 1)] += settings.penalty
        right += settings.penalty * known[chunk]
        solved = solve_definite(left, right)
        if settings.link != "identity":
            for position, row in enumerate(chunk):
                solved[position] = step(rows, row, offset, here[row], solved[position], known[row], settings)
        out[chunk] = solved
    return out


def design(rows: Rows, row: int, offset: float) -> tuple[Wide, Wide, Wide]:
    """Of a row's n ratings: (n, k + 1) [q, 1], (n,) what x is without the row's own part, and (n,) y."""
    vectors, targets = rows.vectors(row)
    features = vectors.astype(np.float64)
    others = features[:, -1] + offset
    features[:, -1] = 1.0
    return features, others, targets.astype(np.float64)


def normal_equations(rows: Rows, row: int, offset: float, here: Floats, link: Link) -> tuple[Wide, Wide]:
    """XᵀWX and XᵀWt without the ridge: W = f'², t = v·x + (y - f) / f', all at the row's vector `here`."""
    features, others, targets = design(rows, row, offset)
    own = features @ here.astype(np.float64)
    share, slope = respond(link, own + others)
    weighted = features * (slope**2)[:, None]
    return weighted.T @ features, weighted.T @ own + features.T @ (slope * (targets - share))


def step(
    rows: Rows, row: int, offset: float, here: Floats, there: Wide, prior: Floats, settings: RatingSettings
) -> Wide:
    """`there`, or a point half as far, and so on, whose loss is not above that of `here`."""
    features, others, targets = design(rows, row, offset)

    def loss(vector: Wide) -> float:
        error = targets - respond(settings.link, features @ vector + others)[0]
        return float(error @ error + settings.penalty @ (vector - prior) ** 2)

    begin = here.astype(np.float64)
    limit, move = loss(begin), there - begin
    for halving in range(HALVINGS + 1):
        if loss(begin + move / 2**halving) <= limit:
            return begin + move / 2**halving
    return begin


def confidence(counts: NDArray[np.integer]) -> Wide:
    """n / (n + 5): what a row with n ratings weighs where the prior is fitted."""
    return counts / (counts + 5.0)


def stretched(matrix: Floats | Wide, link: Link, scale: Scale) -> Floats:
    """Rows [p, b] for people: p·q + b_u + b_i + `start` is then the rating itself or, under the sigmoid, its log-odds."""
    unit = scale.width if link == "identity" else STEEPNESS
    return np.hstack([matrix[:, :-1] * np.sqrt(unit), matrix[:, -1:] * unit]).astype(np.float32)


def stretched_offset(offset: float, link: Link, scale: Scale) -> float:
    """The offset that goes with stretched rows."""
    return scale.low + scale.width * offset if link == "identity" else STEEPNESS * offset
