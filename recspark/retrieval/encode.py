"""Encode, or score, tokenised texts in batches cut by a budget of tokens from length-sorted texts, so that little is padding."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from recspark.models.cross_encoder import CrossEncoder
from recspark.models.encoder import TextEncoder, pad

Tokens = Sequence[NDArray[np.int32]]


def encode(encoder: TextEncoder, texts: Tokens, tokens_per_batch: int) -> NDArray[np.float32]:
    """(texts, H) unit-length vectors in the order given; `tokens_per_batch` bounds a batch's padded tokens."""
    device = next(encoder.parameters()).device
    vectors = np.empty((len(texts), encoder.embedding_size), np.float32)
    with torch.inference_mode():
        for chosen in batches([len(t) for t in texts], tokens_per_batch):
            token_ids, mask = pad([texts[i] for i in chosen])
            vectors[chosen] = encoder(token_ids.to(device), mask.to(device)).float().cpu().numpy()
    return vectors


def scores_of(model: CrossEncoder, pairs: Tokens, tokens_per_batch: int) -> NDArray[np.float32]:
    """(pairs,) in the order given; `tokens_per_batch` bounds a batch's padded tokens."""
    device = next(model.parameters()).device
    scores = np.empty(len(pairs), np.float32)
    with torch.inference_mode():
        for chosen in batches([len(p) for p in pairs], tokens_per_batch):
            token_ids, mask = pad([pairs[i] for i in chosen])
            scores[chosen] = model(token_ids.to(device), mask.to(device)).float().cpu().numpy()
    return scores


def batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[NDArray[np.int64]]:
    """Positions of the texts, longest first, in batches of at most `tokens_per_batch` padded tokens (at least one text)."""
    order = np.argsort(-np.asarray(lengths, np.int64), kind="stable")
    start = 0
    while start < len(order):
        longest = max(lengths[order[start]], 1)
        stop = start + max(1, tokens_per_batch // longest)
        yield order[start:stop]
        start = stop
