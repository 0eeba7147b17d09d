"""The loss of windows of unlike length by hand."""

import numpy as np
import pytest
import torch

from recspark.data.catalogue import Catalogue
from recspark.models.sequence import SequenceShape
from recspark.training.launcher import LocalRanks
from recspark.training.reader import Step
from recspark.training.sequence_lesson import SequenceLesson, centred

SHAPE = SequenceShape(size=8, layers=1, heads=2, longest=5)
TEXTS = np.random.default_rng(3).normal(size=(6, 4)).astype(np.float32)


@pytest.fixture
def catalogue(tmp_path) -> Catalogue:
    np.save(tmp_path / "fine_tuned.npy", TEXTS)
    return Catalogue(str(tmp_path), len(TEXTS))


def lesson(catalogue: Catalogue, **given) -> SequenceLesson:
    settings = {"texts": ("fine_tuned",), "own": False, "shape": SHAPE, "dropout": 0.0, "temperature": 0.1}
    return SequenceLesson(catalogue, **{**settings, "peak": 1e-3, "seed": 7, **given})


def test_a_windows_loss_is_the_sum_of_its_wanted_events_times_its_weight(catalogue: Catalogue):
    windows = [([1, 4, 2], [0, 1, 1]), ([5, 0], [0, 1]), ([3, 2, 1, 0], [0, 0, 0, 1])]
    arrays = {name: [np.array(w[n], "<i4") for w in windows] for n, name in enumerate(("positions", "wanted"))}
    step = Step({"weight": np.array([1.5, 0.75, 0.5], np.float32)}, arrays, 3, ("train", 0))
    made = lesson(catalogue)
    model = made.make_model().eval()
    losses = made.losses(model, None, torch.device("cpu"), LocalRanks())(model, step, 1)
    expected = []
    for (positions, wanted), weight in zip(windows, step.numbers["weight"], strict=True):
        after, items = model(torch.tensor([positions[:-1]]))
        likely = torch.log_softmax(after[0] @ items.T / 0.1, -1)
        asked = [-likely[n - 1, positions[n]] for n in range(len(positions)) if wanted[n]]
        expected.append(weight * sum(asked).item())
    assert losses.tolist() == pytest.approx(expected, rel=1e-5)
    losses.sum().backward()
    assert model.text_map.weight.grad.abs().sum() > 0


def test_it_starts_alike_everywhere_and_reads_what_sets_texts_apart(catalogue: Catalogue):
    first, second = (lesson(catalogue).make_model() for _ in range(2))
    for (name, ours), theirs in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    np.testing.assert_allclose(first.texts, centred(TEXTS))
    np.testing.assert_allclose(centred(TEXTS + 5), centred(TEXTS), atol=1e-5)
    assert lesson(catalogue, texts=(), own=True).make_model().text_map is None
