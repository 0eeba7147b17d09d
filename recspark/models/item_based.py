"""Item-based models in closed form: what a user's having one item says of every other, (M, M) by position.

A user's score of item j is Σ over the history of w_i S_ij. All of S is in memory, so the catalogue must fit; `ease_bytes`
says how much that is.

Dimensions: M items, D length of text vectors, V words.
"""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.linalg import lapack
from scipy.sparse import csr_matrix

from recspark.config import Settings

Doubles = NDArray[np.float64]
Floats = NDArray[np.float32]


class EaseSettings(Settings):
    """EASE; its numbers are in units of the mean number of users of an item, so that they mean the same on any log.

    The defaults are between what was best on MovieLens-100K (8.9, 1.3) and on Amazon's office products (8, .8 and .8).
    """

    ridge: float = Field(8.5, gt=0, description="λ, in mean users of an item")
    text_weight: float = Field(
        1.0, ge=0, description="of the texts' Gram matrices beside the interactions', in mean users of an item"
    )


def ease_bytes(items: int) -> int:
    """The most that `ease` and its inputs hold: the users two items share, the texts' products, the inverse, the result."""
    return 24 * items * items


def ease(counts_MM: Doubles, ridge: float, texts_MM: Floats | None = None, text_weight: float = 0.0) -> Floats:
    """S = I − P diag(P)^-1 with zero diagonal, P = (G + w T + λ I)^-1 (Steck 2019, "Embarrassingly shallow autoencoders").

    counts_MM: G, the users whom two items share, on the diagonal an item's own. T: products of the items' texts (`text_gram`),
    as if w more users had the items whose texts share a trait (in the spirit of Jeunen, Van Balen and Goethals 2020, "Closed-
    form models for collaborative filtering with side information"). ridge and text_weight are in units of the mean of G's diagonal.
    """
    users = mean_users(counts_MM)
    gram = np.array(counts_MM, np.float64, order="F")
    if texts_MM is not None and text_weight > 0:
        gram += (text_weight * users) * texts_MM
    gram[np.diag_indices_from(gram)] += ridge * users
    return off_diagonal(inverse(gram))


def mean_users(counts_MM: Doubles) -> float:
    """Users of an item, on average over the catalogue; 1 where there are none at all."""
    return float(np.diag(counts_MM).mean()) or 1.0


def inverse(gram_MM: Doubles) -> Doubles:
    """Of a positive definite matrix in Fortran order, in its own memory; both triangles are filled."""
    factor, failed = lapack.dpotrf(gram_MM, lower=1, overwrite_a=1)
    if failed:
        raise ValueError("the matrix is not positive definite")
    inverted, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
    for column in range(len(inverted) - 1):  # a row at a time: a second matrix would be as large again
        inverted[column, column + 1 :] = inverted[column + 1 :, column]
    return inverted


def off_diagonal(precision_MM: Doubles) -> Floats:
    """-P_ij / P_jj, and 0 where i is j; computed in the memory of P."""
    precision_MM /= -np.diag(precision_MM)
    weights = precision_MM.astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


def text_gram(vectors_MD: Floats, words_MV: csr_matrix) -> Floats:
    """(M, M) products of the items' text vectors, centred over the catalogue, plus those of their words' weights.

    Both are of unit length: the two halves weigh about alike. The words say what the encoder blurs, a brand or a part number.
    """
    centred = vectors_MD - vectors_MD.mean(axis=0)
    return centred @ centred.T + (words_MV @ words_MV.T).toarray()


def word_weights(texts: list[str]) -> csr_matrix:
    """(M, V) float32: TF-IDF of the items' texts, sublinear in the count, of unit length; zero for a text without a word."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, dtype=np.float32)
    try:
        return vectorizer.fit_transform(texts).tocsr()
    except ValueError:  # not a word in any text
        return csr_matrix((len(texts), 0), dtype=np.float32)
