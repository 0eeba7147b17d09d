"""The solves of implicit ALS: (a s G + Σ w v vᵀ + λ I)⁻¹ (Σ w v + λ z) for each row, in whichever form is smaller.

A row of many interactions is a k x k system. One of n, few beside k, is an n x n system: in the eigenvectors of G, what all rows
share is diagonal, D = a s Γ + λ I, and with U the row's n vectors in that basis

    x = z' + D⁻¹ Uᵀ W^½ (I + W^½ U D⁻¹ Uᵀ W^½)⁻¹ W^½ (1 - U z'),   z' = λ D⁻¹ z

which is Woodbury's identity (Pilászy, Zibriczky and Tikk 2010, "Fast ALS-based matrix factorization", solve such rows in that
form, too). Of most logs, most users are such rows. A row's numbers depend on nothing of the other rows, to the last bit.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

from recspark.models.factors import Floats, Rows

Wide = NDArray[np.float64]

PIECE = 2**14  # rows that are worked on in float64 at a time: 16 MiB an array at k = 128
GATHERED = 2**20  # numbers of vectors that are gathered at once: 8 MiB in float64
ROUNDED = 2.0**16  # sums of weights up to which float32 is enough: its rounding, 2^-24 of the sum, is far below any λ
MOMENT_ROWS = 16384  # vectors that are made float64 at a time


def solve_rows(
    rows: Rows, gram: Wide, penalty: Wide, prior: Floats | None = None, unobserved_weight: float = 0.0
) -> Floats:
    """(rows, k): the solution of each row; gram (k, k): G, of all source vectors; penalty (rows,): λ, above 0.

    The exposure of a row is its s, unobserved_weight is a. A row without interactions and without prior is zero.
    """
    k = gram.shape[0]
    out = np.empty((len(rows), k), np.float32)
    few = (rows.counts <= k // 2) & (weight_sums(rows) <= ROUNDED)
    known = np.zeros((len(rows), k), np.float32) if prior is None else prior
    shared = unobserved_weight * rows.exposure.astype(np.float64)
    for solve, chosen in ((solve_systems, np.flatnonzero(~few)), (solve_by_interactions, np.flatnonzero(few))):
        if len(chosen):
            solve(rows, chosen, gram, penalty, known, shared, out)
    return out


def chunks(positions: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


def weight_sums(rows: Rows) -> Wide:
    """(rows,) Σ w of each."""
    sums, met = np.zeros(len(rows)), rows.counts > 0
    if met.any():
        sums[met] = np.add.reduceat(rows.weights.astype(np.float64), rows.indptr[:-1][met])
    return sums


def solve_systems(
    rows: Rows, chosen: NDArray[np.int64], gram: Wide, penalty: Wide, prior: Floats, shared: Wide, out: Floats
) -> None:
    """Writes the chosen rows' solutions into out (rows, k), by k x k systems; shared (rows,): a s of each."""
    for row in chosen:
        square, right = moments(*rows.vectors(row))
        left = shared[row] * gram
        left += square
        left.ravel()[:: len(gram) + 1] += penalty[row]
        # Symmetric, so that its transpose, which LAPACK need not copy, is the same.
        _, out[row], info = dposv(left.T, right + penalty[row] * prior[row], overwrite_a=True)
        if info:
            raise np.linalg.LinAlgError(f"the system of row {row} is not positive definite")


def moments(vectors: Floats, weights: Floats) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """(k, k) Σ w v vᵀ and (k,) Σ w v. In float64, some vectors at a time, where the rounding of float32 could exceed λ."""
    total = weights.sum(dtype=np.float64)
    if total <= ROUNDED:
        weighted = vectors * weights[:, None]
        return weighted.T @ vectors, weighted.sum(0)
    k = vectors.shape[1]
    square, linear = np.zeros((k, k)), np.zeros(k)
    for start in range(0, len(vectors), MOMENT_ROWS):
        wide = vectors[start : start + MOMENT_ROWS].astype(np.float64)
        weighted = wide * weights[start : start + MOMENT_ROWS, None]
        square += weighted.T @ wide
        linear += weighted.sum(0)
    return square, linear


def solve_by_interactions(
    rows: Rows, chosen: NDArray[np.int64], gram: Wide, penalty: Wide, prior: Floats, shared: Wide, out: Floats
) -> None:
    """As `solve_systems`, by systems of as many rows as there are interactions."""
    values, basis = np.linalg.eigh(gram)
    values = values.clip(0)
    source, indices = turned_source(rows, chosen, basis)
    for piece in chunks(chosen, PIECE):
        diagonal = shared[piece, None] * values + penalty[piece, None]
        centre = turned(prior[piece], basis) * penalty[piece, None] / diagonal
        out[piece] = turned(corrected(rows, piece, source, indices, diagonal, centre), basis.T)


def corrected(
    rows: Rows, chosen: NDArray[np.int64], source: Floats, indices: NDArray[np.int64], diagonal: Wide, centre: Wide
) -> Wide:
    """(chosen, k) solutions x in the basis, in the memory of the centre z': see above. indices: of the interactions, into the source."""
    counts, k = rows.counts[chosen], centre.shape[1]
    padded = padded_sizes(counts)
    for size in np.unique(padded[counts > 0]):
        alike = np.flatnonzero((padded == size) & (counts > 0))
        for chunk in chunks(alike, max(1, GATHERED // (size * k))):
            starts, within = rows.indptr[chosen[chunk]][:, None], np.arange(size)
            here = within < counts[chunk][:, None]
            places = np.where(here, starts + within, starts)  # a row's first stands in for what it has not
            root = np.sqrt(np.where(here, rows.weights[places], 0.0).astype(np.float64))
            scale = np.sqrt(diagonal[chunk])
            vectors = source[indices[places]] * root[:, :, None]
            target = root - (vectors @ centre[chunk][:, :, None])[:, :, 0]
            vectors /= scale[:, None, :]
            left = vectors @ vectors.transpose(0, 2, 1)
            left[:, np.arange(size), np.arange(size)] += 1.0
            answer = solve_definite(left, target)
            centre[chunk] += (answer[:, None, :] @ vectors)[:, 0] / scale
    return centre


def padded_sizes(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Each count up to the next 2^i or 3 · 2^i: rows of one size are solved together, and few sizes make long batches."""
    ladder = np.sort(np.outer([2, 3], 2 ** np.arange(31)).ravel())
    ladder = np.append(1, ladder)
    return ladder[np.searchsorted(ladder, counts)]


def turned_source(rows: Rows, chosen: NDArray[np.int64], basis: Wide) -> tuple[Floats, NDArray[np.int64]]:
    """(used, k) the source vectors that the chosen rows touch, in the basis, and the rows' indices into them."""
    touched = np.zeros(len(rows), bool)
    touched[chosen] = True
    used = np.zeros(len(rows.source), bool)
    used[rows.indices[np.repeat(touched, rows.counts)]] = True
    found = np.flatnonzero(used)
    source = np.empty((len(found), len(basis)), np.float32)
    for start in range(0, len(found), PIECE):
        source[start : start + PIECE] = turned(rows.source[found[start : start + PIECE]], basis)
    return source, (np.cumsum(used) - 1)[rows.indices]


def turned(vectors: NDArray[np.floating], basis: Wide) -> Wide:
    """(rows, k) vectors times basis, a row at a time: in one product, a row's last digits could depend on how many there are."""
    return (vectors.astype(np.float64)[:, None, :] @ basis)[:, 0]


def solve_definite(left: Wide, right: Wide) -> Wide:
    """(b, k) solutions of b symmetric positive definite (k, k) systems."""
    solved: Wide = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return solved
