"""How far predicted ratings are off: RMSE and MAE over ratings, with bootstrap intervals over users.

RMSE = sqrt(Σ e² / n), MAE = Σ |e| / n, with e = prediction - rating and n the number of ratings. A replicate of the bootstrap
draws users, w times each, with all of their ratings: sqrt(Σ_u w_u Σ e² / Σ_u w_u n_u). So the rows handed on are ratings, each
under its user's hash; square root and interval may change places, as the root is monotone.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recspark.evaluation.bootstrap import Estimate, Floats, Hashes, bootstrap_sums, estimate

METRICS = ("rmse", "mae")


def error_sums(hashes: Hashes, errors_NM: Floats, unit: float, replicates: int) -> NDArray[np.int64]:
    """(R + 1, 2 M + 1) bootstrap sums of N ratings' squared and absolute errors under M models, and of weights.

    hashes (N,): of each rating's user. unit: no error is larger; sums of one unit add up.
    """
    shares_NM = errors_NM / unit if unit else np.zeros_like(errors_NM)
    return bootstrap_sums(hashes, np.hstack([shares_NM**2, np.abs(shares_NM)]), replicates)


def rating_rows(sums: NDArray[np.int64], unit: float, models: Sequence[str]) -> list[tuple]:
    """(model, metric, value, low, high) from the sums of all ratings. Raises ValueError if there is none."""
    found: Estimate = estimate(sums)
    ends = np.stack([found.value, found.low, found.high])
    squares, shares = ends[:, : len(models)], ends[:, len(models) :]
    by_metric = {"rmse": unit * np.sqrt(squares), "mae": unit * shares}
    return [
        (model, metric, *map(float, by_metric[metric][:, column]))
        for column, model in enumerate(models)
        for metric in METRICS
    ]
