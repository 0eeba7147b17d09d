"""A user-item matrix that can be checked by hand, and vectors for its sides."""

import numpy as np
import pandas as pd

K = 3


def checkerboard(users: int = 6, items: int = 5) -> pd.DataFrame:
    """User u has met item i when u + i is even; the last item is met by nobody."""
    pairs = [(f"u{u}", i, 1.0 + u) for u in range(users) for i in range(items - 1) if (u + i) % 2 == 0]
    return pd.DataFrame(pairs, columns=["user_id", "item_id", "weight"])


def vector_table(ids: list, seed: int) -> pd.DataFrame:
    drawn = np.random.default_rng(seed).normal(size=(len(ids), K)).astype(np.float32)
    return pd.DataFrame({"id": ids, "vector": [v.tolist() for v in drawn]})
