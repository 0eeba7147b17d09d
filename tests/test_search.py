"""What `recspark search` prints and refuses; that its scores are the stage's is asserted in stages/test_search.py. No Spark."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from recspark import search
from recspark.cli import app
from recspark.data.text import text_hash
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lookup import Lookup
from recspark.tables import ITEM_VECTORS, TEXT_VECTORS, USER_VECTORS
from tests.search_world import DATE, search_lake
from tests.table_rows import write

sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))


@pytest.fixture
def lake(tmp_path: Path, tiny_encoder: Path) -> Lake:
    return search_lake(tmp_path, tiny_encoder)


@pytest.fixture
def shown(lake, tmp_path, capsys, monkeypatch):
    """Call the command over the lake; gives the printed lines with runs of space as one. The rest of the YAML is not valid."""
    monkeypatch.setenv("COLUMNS", "80")
    path = tmp_path / "conf.yaml"
    path.write_text(
        f"lake: {lake.root}\nencoder: {{path: '${{NOT_SET}}'}}\nsearch: {{bm25_weight: 0.5, queries: {{path: none.csv}}}}\n"
    )

    def call(query: str, user: str | None = None, top: int = 3, overrides: tuple[str, ...] = ()) -> list[str]:
        search.run(str(path), None, list(overrides), query, user, top)
        return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]

    return call


def test_the_item_whose_text_is_asked_for_comes_first(shown):
    """Cosine 1, and both words at their best: 0.5 more."""
    lines = shown("quiet love")
    assert lines[0].startswith(f"“quiet love” {DATE}, ")
    assert lines[1] == "rank score title item"
    assert lines[3] == "1 1.5000 Title c c"
    assert [line.split()[0] for line in lines[3:]] == ["1", "2", "3"]


def test_items_of_one_text_tie_and_stand_by_id(shown):
    assert [line.split()[3] for line in shown("the apple", top=2)[3:]] == ["a", "f"]


def test_a_users_preferences_move_items(shown):
    weights = ("search.personal_weight=100",)
    assert [line.split()[3] for line in shown("love", "u1", overrides=weights)[3:]] == ["a", "b", "c"]
    assert [line.split()[3] for line in shown("love", "u2", overrides=weights)[3:]] == ["f", "e", "d"]
    assert shown("love", "u3", overrides=weights) == shown("love")  # all items alike


def test_a_preference_counts_by_its_weight(shown):
    """c is 0.05 above the mean of u1's scores, 0.2928 standard deviations; the weight is 0.05."""
    assert shown("quiet love", "u1")[3] == "1 1.5146 Title c c"


def test_ties_go_by_position_among_many_items():
    scores = np.tile([0.0, 2.0, 1.0, 2.0], 500)
    assert search.best(scores, 3).tolist() == [1, 3, 5]
    from search_quality import first_places

    assert first_places(np.stack([scores] * 3), [5, 1, 2]).tolist() == [2, 0, 1000]


def test_a_long_query_is_cut_and_an_unknown_one_answered_and_both_say_so(shown):
    assert "The query is longer than the model reads; the first 16 tokens count." in shown(
        "war and love and war and love"
    )
    lines = shown("東京")
    assert lines[1].startswith("The model knows nothing in this query")
    assert lines[-3].split()[3] == "e"  # a word of its text


@pytest.mark.parametrize("query", ["", "  \t", "<p></p>", "\u200b"])
def test_a_query_without_text_is_refused(shown, query):
    with pytest.raises(UserError, match="has no text to search for"):
        shown(query)


def test_what_does_not_fit_is_told(shown, lake):
    with pytest.raises(UserError, match=r"user U2 is not in table user_vectors .* near it are u2, u1, u3$"):
        shown("love", "U2")
    with pytest.raises(UserError, match=r"--top is 7, but the catalogue has 6 items; set --top to 6 or less"):
        shown("love", top=7)
    with pytest.raises(UserError, match=r"search.bm25_weight"):
        shown("love", overrides=("search.bm25_weight=-1",))
    write(lake, ITEM_VECTORS, [("a", [1.0, 0.0], [1.0], 1, 1.0, "hash", "an earlier model")])
    with pytest.raises(UserError, match=r"item_vectors .* another model"):
        shown("love", "u1")
    write(lake, TEXT_VECTORS, [(text_hash("red"), lake.model_manifest("retriever")["content_hash"], [0.25] * 16)])
    with pytest.raises(
        UserError, match=r"6 of the 6 items .* have no vector in text_vectors; run the stage embed again"
    ):
        shown("love")
    write(lake, TEXT_VECTORS, [(text_hash("red"), "an earlier model", [1.0])])
    with pytest.raises(UserError, match=r"text_vectors .* another model"):
        shown("love")
    lake.fs.delete_dir(lake.path(TEXT_VECTORS.name))
    with pytest.raises(UserError, match=r"table text_vectors is not in the lake .*run the pipeline first"):
        shown("love")


def test_the_version_that_the_vectors_name_reads_the_query(shown, lake, tmp_path):
    before, version = shown("quiet love"), lake.model_of_date("retriever")
    place = f"text_vectors/run_date={DATE}/_manifest.json"
    lake.write_json(place, {**lake.get_json(place), "retriever_version": version.id})
    (tmp_path / "retriever" / "more").touch()
    lake.write_model("retriever", tmp_path / "retriever")
    assert lake.model_of_date("retriever").id != version.id
    assert shown("quiet love") == before


def test_products_follow_the_ids_that_are_wanted(lake):
    """u1's (2, 0) with items e, a and c: 2 × 0.2, 0.6, 0.4."""
    wanted = pa.chunked_array([["e", "a"], ["c"]])
    found = search.products(Lookup(lake, ITEM_VECTORS), "item_id", wanted, np.array([[2, 0], [0, 9]], np.float32))
    np.testing.assert_allclose(found, [[0.4, 1.2, 0.8], [0, 0, 0]], rtol=1e-6)


def test_preferences_are_in_standard_deviations(lake):
    """0.6 … 0.1: mean 0.35, standard deviation √(0.175 / 6) = 0.1708."""
    index = search.open_index(lake)
    by_hand = np.array([0.25, 0.15, 0.05, -0.05, -0.15, -0.25]) / 0.170783
    np.testing.assert_allclose(index.preferences("u1"), by_hand, rtol=1e-4)
    np.testing.assert_allclose(index.preferences("u2"), -by_hand, rtol=1e-4)
    assert not index.preferences("u3").any()


def test_the_command_hands_on_what_it_was_told(monkeypatch):
    asked = []
    monkeypatch.setattr(search, "run", lambda *a: asked.append(a))
    words = ["search", "two words", "--config", "a.yaml", "--run-date", "2026-01-02", "--set", "a=1", "--user", "7"]
    assert CliRunner().invoke(app, [*words, "--top", "3"]).exit_code == 0
    assert CliRunner().invoke(app, ["search", "x", "--config", "a.yaml"]).exit_code == 0
    assert asked == [("a.yaml", DATE, ["a=1"], "two words", "7", 3), ("a.yaml", None, [], "x", None, 10)]
    assert CliRunner().invoke(app, ["search", "x", "--config", "a.yaml", "--top", "0"]).exit_code == 2


def test_a_refused_query_ends_with_2(tmp_path):
    (tmp_path / "a.yaml").write_text(f"lake: {tmp_path}/lake\n")
    assert CliRunner().invoke(app, ["search", "x", "--config", str(tmp_path / "a.yaml")]).exit_code == 2


def test_user_vectors_are_needed_only_for_a_user(shown, lake):
    lake.remove(lake.partition(USER_VECTORS))
    assert len(shown("love")) == 6
    with pytest.raises(UserError, match="table user_vectors of run date 2026-01-02 is not in the lake"):
        shown("love", "u1")
