"""A small lake to search: six items whose texts a tiny encoder has read, two users, every preference to be worked out by hand.

Item vectors are (0.6, 0) for item a down to (0.1, 0) for item f; u1 is (2, 0) and likes a best, u2 is (-1, 0) and likes f best,
u3 is (0, 1) and scores all items alike. The texts of a and f are one, so their cosines always tie.
"""

import datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from recspark.data.text import text_hash
from recspark.lake import Lake
from recspark.models.encoder import EncoderConfig, load_encoder, load_tokenizer
from recspark.models.factors import FactorSettings
from recspark.models.retriever import Retriever, save_retriever
from recspark.retrieval.encode import encode
from recspark.tables import ITEM_VECTORS, ITEMS, TEXT_VECTORS, USER_VECTORS
from tests.table_rows import write

DATE = datetime.date(2026, 1, 2)
MAX_LENGTH = 16
TEXTS = {
    "a": "the apple",
    "b": "red robot war",
    "c": "quiet love",
    "d": "war and love",
    "e": "東京 zebra",
    "f": "the apple",
}
USERS = {"u1": [2.0, 0.0], "u2": [-1.0, 0.0], "u3": [0.0, 1.0]}


def search_lake(folder: Path, encoder: Path) -> Lake:
    """The lake in a folder, as a night leaves it."""
    lake = Lake(str(folder / "lake"), DATE)
    model = folder / "retriever"
    model.mkdir()
    size = load_encoder(encoder).embedding_size
    retriever = Retriever(load_encoder(encoder), np.ones((2, size)), np.zeros(2))
    base = EncoderConfig(path=str(encoder), max_length=MAX_LENGTH)
    save_retriever(retriever, base, FactorSettings(embedding_size=2), model)
    model_hash = lake.write_model("retriever", model)
    vectors = dict(zip(TEXTS.values(), encoded(model, list(TEXTS.values())), strict=True))
    write(lake, ITEMS, [(i, f"Title {i}", text, text_hash(text), [1], {}) for i, text in reversed(TEXTS.items())])
    write(lake, TEXT_VECTORS, [(text_hash(text), model_hash, v.tolist()) for text, v in vectors.items()])
    write(
        lake,
        ITEM_VECTORS,
        [
            (i, [0.6 - n / 10, 0.0], [0.0, 0.0], 1, 1.0, text_hash(text), model_hash)
            for n, (i, text) in enumerate(TEXTS.items())
        ],
    )
    write(lake, USER_VECTORS, [(user, vector, 1, model_hash) for user, vector in USERS.items()])
    return lake


def encoded(model: Path, texts: list[str]) -> NDArray[np.float32]:
    """Unit vectors of the texts, one text at a time."""
    tokenizer, encoder = load_tokenizer(model, MAX_LENGTH), load_encoder(model)
    ids = [tokenizer(text, truncation=True, max_length=MAX_LENGTH)["input_ids"] for text in texts]
    return np.vstack([encode(encoder, [np.asarray(row, np.int32)], 1) for row in ids])
