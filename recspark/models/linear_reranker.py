"""A score that is a weighted sum of features, learned by a softmax over each list (conditional logit, McFadden 1974).

Shapes: N entries of all lists one after the other, G lists, F features.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.floating]
FILE = "features.json"


@dataclass(frozen=True)
class LinearReranker:
    """The features by name, what is taken from each, what it is then divided by, and its weight."""

    names: tuple[str, ...]
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]

    def score(self, features_NF: Floats) -> NDArray[np.float64]:
        """(N,)"""
        return (features_NF - np.asarray(self.mean)) / np.asarray(self.scale) @ np.asarray(self.weight)

    def save(self, folder: str | Path) -> None:
        (Path(folder) / FILE).write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def load(cls, folder: str | Path) -> "LinearReranker":
        return cls(**{k: tuple(v) for k, v in json.loads((Path(folder) / FILE).read_text()).items()})


def fit(
    names: tuple[str, ...], features_NF: Floats, indptr: NDArray[np.int64], target_G: NDArray[np.int64], l2: float
) -> LinearReranker:
    """Least mean of -log softmax(scores of a list)[target], plus l2 / 2 |weight|², by L-BFGS.

    indptr (G + 1,): where the lists begin and end, none of them empty; target_G: the entry of each that was taken.
    """
    features = np.asarray(features_NF, np.float64)
    mean, scale = features.mean(0), features.std(0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    features = (features - mean) / scale
    starts, lengths = indptr[:-1], np.diff(indptr)

    def loss(weight: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        scores = features @ weight
        shifted = scores - np.repeat(np.maximum.reduceat(scores, starts), lengths)
        exponents = np.exp(shifted)
        sums = np.add.reduceat(exponents, starts)
        slope = exponents / np.repeat(sums, lengths)
        slope[target_G] -= 1
        value = (np.log(sums) - shifted[target_G]).mean() + l2 / 2 * weight @ weight
        return value, slope @ features / len(starts) + l2 * weight

    found = minimize(loss, np.zeros(len(names)), jac=True, method="L-BFGS-B")
    return LinearReranker(names, *(tuple(map(float, v)) for v in (mean, scale, found.x)))
