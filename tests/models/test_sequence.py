"""The transformer over item vectors: what it may look at, and that saved it says the same."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from pydantic import ValidationError

from recspark.models.sequence import SequenceModel, SequenceShape, load_sequence, save_sequence
from recspark.retrieval.sequences import Sequences

SHAPE = SequenceShape(size=8, layers=2, heads=2, longest=4)
ITEMS = 7


SET = SHAPE.model_copy(update={"reads": "set"})


def model(texts: bool = True, own: bool = False, shape: SequenceShape = SHAPE) -> SequenceModel:
    torch.manual_seed(1)
    return SequenceModel(torch.randn(ITEMS, 5) if texts else None, ITEMS, own, shape, 0.1).eval()


@pytest.mark.parametrize("shape", [SHAPE, SET], ids=["order", "set"])
@pytest.mark.parametrize(("texts", "own"), [(True, False), (False, True), (True, True)])
def test_what_comes_later_changes_nothing_of_what_was_said_before(texts: bool, own: bool, shape: SequenceShape):
    after, items = model(texts, own, shape)(torch.tensor([[3, 1, 4, 0], [3, 1, 5, 6]]))
    assert after.shape == (2, 4, 8)
    assert items.shape == (ITEMS, 8)
    torch.testing.assert_close(after[0, :2], after[1, :2])
    assert not torch.allclose(after[0, 2], after[1, 2])
    torch.testing.assert_close(after.norm(dim=-1), torch.ones(2, 4))
    torch.testing.assert_close(items.norm(dim=-1), torch.ones(ITEMS))


def test_items_that_read_alike_are_alike_where_only_texts_are_read():
    texts = torch.ones(2, 5)
    torch.testing.assert_close(*SequenceModel(texts, 2, False, SHAPE, 0.0).items())
    assert not torch.allclose(*SequenceModel(texts, 2, True, SHAPE, 0.0).items())


@pytest.mark.parametrize(("shape", "alike"), [(SHAPE, False), (SET, True)], ids=["order", "set"])
def test_the_order_of_a_history_counts_only_where_it_is_read(shape: SequenceShape, alike: bool):
    after, _ = model(shape=shape)(torch.tensor([[3, 1, 4], [4, 3, 1]]))
    assert torch.allclose(after[0, -1], after[1, -1], atol=1e-6) == alike
    assert not torch.allclose(after[0, -1], after[0, 0])


@pytest.mark.parametrize("shape", [SHAPE, SET], ids=["order", "set"])
def test_saved_it_gives_each_history_the_vector_after_its_newest_event(tmp_path, shape: SequenceShape):
    made = model(own=True, shape=shape)
    save_sequence(made, shape, tmp_path)
    _, items, loaded = load_sequence(tmp_path)
    assert loaded == shape
    assert torch.equal(items, made.items().detach())

    histories = [[4, 1, 3], [], [0], [6, 5, 4, 1, 3]]  # the newest first; of the last, one is more than it reads
    sequences = Sequences(str(tmp_path), 1)
    found = sequences.users(pa.chunked_array([pa.array(histories, pa.list_(pa.int32()))]))
    with torch.no_grad():
        for row, history in enumerate(histories):
            if history:
                after, unit = made(torch.tensor([history[:4][::-1]]))
                np.testing.assert_allclose(found[row], after[0, -1], atol=1e-6)
                np.testing.assert_allclose(sequences.items(), unit, atol=1e-6)
    assert (found[1] == 0).all()


def test_heads_that_do_not_divide_the_size_are_refused():
    with pytest.raises(ValidationError, match="size 10 should be a multiple of heads 4"):
        SequenceShape(size=10, heads=4)
