"""Rows of an interaction matrix, by hand."""

import numpy as np

from recspark.models.factors import Rows


def make_rows(columns: list[list[int]], source: np.ndarray, weights: list[float] | None = None) -> Rows:
    indices = np.array([c for row in columns for c in row], np.int64)
    indptr = np.cumsum([0, *(len(row) for row in columns)]).astype(np.int64)
    given = np.ones(len(indices), np.float32) if weights is None else np.array(weights, np.float32)
    return Rows(indptr, indices, given, source.astype(np.float32), np.ones(len(columns), np.float32))


def random(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)
