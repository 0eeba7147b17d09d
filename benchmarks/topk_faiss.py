"""The side of benchmarks/topk.py that is FAISS's flat index alone, on all cores.

A request is that of `topk_sides.py`. From arrays in memory to an array in memory; neither reading nor writing is counted.
"""

from functools import cache

import faiss
import numpy as np
from serve import Keep, Work, serve


def flat() -> tuple[Work, Keep | None]:
    def work(world: str, interactions: str, top_k: int, lists: str) -> np.ndarray:
        users, items = array(f"{world}/users.npy"), array(f"{world}/items.npy")
        index = faiss.IndexFlatIP(items.shape[1])
        index.add(items)
        return index.search(users, top_k)[1]

    def keep(positions: np.ndarray, lists: str, **_: object) -> None:
        np.save(lists, positions)

    return work, keep


@cache
def array(path: str) -> np.ndarray:
    """Read at the first, unmeasured turn."""
    return np.load(path)


if __name__ == "__main__":
    serve(flat)
