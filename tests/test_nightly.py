"""A whole night on a small real sample: by `recspark run`, and by spark-submit of each job on executors of their own."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests import nightly
from tests.nightly import STAGES, Night

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # a dozen processes, each a Spark of its own


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    return nightly.whole_night(tmp_path_factory)[0]


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> str:
    return nightly.whole_night(tmp_path_factory)[1]


def test_the_run_tells_its_story(night: Night, said: str):
    for position, name in enumerate(STAGES, 1):
        assert f"[{position}/{len(STAGES)}] {name}: reads " in said
        assert f"[{position}/{len(STAGES)}] {name}: wrote " in said
    assert "what was made" in said
    assert "Traceback" not in said
    (log,) = (night.lake / "logs" / f"run_date={nightly.DATE}").glob("run-*.jsonl")
    records = [json.loads(line) for line in log.read_text().splitlines()]
    ends = [r for r in records if r.get("event") == "end"]
    assert [r["stage"] for r in ends] == list(STAGES)
    assert all(r["rows_out"] and r["seconds"] > 0 for r in ends)


def test_a_secret_from_the_environment_is_in_nothing_that_the_night_leaves(night: Night, said: str):
    assert nightly.SECRET not in said
    written = [path for path in night.lake.rglob("*") if path.is_file()]
    assert any(nightly.SECRET_NAME.encode() in path.read_bytes() for path in written)  # the manifests have its name
    assert not [path for path in written if nightly.SECRET.encode() in path.read_bytes()]


def test_every_list_is_full_starts_at_one_never_rises_and_holds_nothing_seen(night: Night):
    lists, interactions = nightly.read(night.lake, "recommendations"), nightly.read(night.lake, "interactions")
    items, users = nightly.read(night.lake, "items"), nightly.read(night.lake, "users")
    seen = interactions[interactions.split != "test"]
    left = len(items) - seen.groupby("user_id").item_id.nunique().reindex(users.user_id).fillna(0)
    by_user = lists.sort_values(["user_id", "rank"]).groupby("user_id")
    assert set(lists.user_id) == set(users.user_id)
    assert (by_user.size() == np.minimum(20, left).astype(int).reindex(by_user.size().index)).all()
    assert (by_user["rank"].apply(list).map(lambda ranks: ranks == list(range(1, len(ranks) + 1)))).all()
    assert (by_user.score.diff().dropna() <= 0).all()
    assert not len(lists.merge(seen, on=["user_id", "item_id"]))


def test_brute_force_agrees_with_the_lists(night: Night):
    users, items = nightly.read(night.lake, "user_vectors"), nightly.read(night.lake, "item_vectors")
    interactions, lists = nightly.read(night.lake, "interactions"), nightly.read(night.lake, "candidates")
    scores = np.stack(list(users.vector)) @ np.stack(list(items.vector)).T
    column = {item: i for i, item in enumerate(items.item_id)}
    row = {user: i for i, user in enumerate(users.user_id)}
    for event in interactions[interactions.split != "test"].itertuples():
        scores[row[event.user_id], column[event.item_id]] = -np.inf
    for user, listed in lists.sort_values("rank").groupby("user_id"):
        best = np.sort(scores[row[user]])[::-1][: len(listed)]
        np.testing.assert_allclose(listed.score, best, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            scores[row[user], [column[i] for i in listed.item_id]], listed.score, rtol=1e-5, atol=1e-6
        )


def test_the_saved_model_gives_the_same_vectors_elsewhere(night: Night):
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers import AutoModel, AutoTokenizer

    (version,) = (night.lake / "models" / "retriever").glob(f"version={nightly.DATE}-*")
    folder = str(version)
    items = nightly.read(night.lake, "items").drop_duplicates("text_hash").head(40)
    ours = nightly.read(night.lake, "text_vectors").set_index("text_hash").vector.loc[items.text_hash]
    ours = np.stack(list(ours))
    theirs = SentenceTransformer(folder, device="cpu").encode(list(items.text))
    assert (ours * theirs).sum(1).min() > 0.9999

    tokens = AutoTokenizer.from_pretrained(folder)(
        list(items.text), padding=True, truncation=True, max_length=16, return_tensors="pt"
    )
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder)(**tokens).last_hidden_state
    mask = tokens["attention_mask"].unsqueeze(-1)
    plain = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1), dim=-1).numpy()
    assert (ours * plain).sum(1).min() > 0.9999


def test_no_training_event_lies_after_a_test_event(night: Night):
    interactions = nightly.read(night.lake, "interactions")
    assert (
        interactions[interactions.split == "train"].order_key.max()
        < interactions[interactions.split == "test"].order_key.min()
    )


def same(one: Path, other: Path, *tables: str) -> None:
    for table in tables:
        pd.testing.assert_frame_equal(nightly.read(one, table), nightly.read(other, table), check_exact=True)


def test_each_job_by_spark_submit_on_executors_of_their_own_gives_the_same_tables(night: Night, tmp_path: Path):
    jobs = Night(tmp_path, night.raw, **{"spark.master": "local-cluster[2,1,1024]"})
    for stage in STAGES:
        nightly.succeed(nightly.spark_submit(stage, *jobs.arguments))
    same(
        night.lake,
        jobs.lake,
        "interactions",
        "items",
        "user_factors",
        "item_vectors",
        "user_vectors",
        "candidates",
        "metrics",
        "comparisons",
        "leakage",
    )


def test_the_other_launcher_and_reader_give_the_same_lists(night: Night, tmp_path: Path):
    other = Night(tmp_path, night.raw, **{"finetune.launcher": "torch", "finetune.reader": "arrow"})
    shutil.copytree(night.lake, other.lake, symlinks=True)
    nightly.succeed(nightly.recspark("run", *other.arguments, "--from", "finetune", "--to", "candidates"))
    one, two = nightly.read(night.lake, "training_log"), nightly.read(other.lake, "training_log")
    np.testing.assert_allclose(one.valid_loss, two.valid_loss, rtol=1e-3)
    mine, theirs = nightly.read(night.lake, "candidates"), nightly.read(other.lake, "candidates")
    assert len(mine.merge(theirs, on=["user_id", "item_id"])) > 0.98 * len(mine)
