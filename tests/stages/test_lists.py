"""What the top-K's rim of Spark must not lose."""

import pytest

from recspark.data.catalogue import Catalogue, write_catalogue
from recspark.stages.lists import ListSettings, Ranking, blocks_for, recommend_trials

USERS = "user_id bigint, up array<float>, down array<float>"


@pytest.fixture(scope="module")
def catalogue(spark, tmp_path_factory) -> Catalogue:
    """Five items, 0 to 4, at those positions and with those numbers for vectors; the first three are low."""
    items = spark.createDataFrame(
        [(i, [float(i)], i < 3) for i in range(5)], "item_id bigint, vector array<float>, low boolean"
    )
    return write_catalogue(items, str(tmp_path_factory.mktemp("catalogue")))


def positions(rows) -> dict:
    """(trial, user) -> positions by rank."""
    lists: dict = {}
    for r in sorted(rows, key=lambda r: r["rank"]):
        lists.setdefault((r.trial, r.user_id), []).append(r.position)
    return lists


def test_users_without_a_vector_get_no_list_and_a_trial_ranks_what_it_allows(spark, catalogue):
    users = spark.createDataFrame([(1, [1.0], [-1.0]), (2, None, [1.0])], USERS)
    seen = spark.createDataFrame([(1, 4), (1, 0), (2, 4), (3, 1)], "user_id bigint, position int")
    trials = {0: Ranking("up", "vector", 2), 7: Ranking("down", "vector", 2, ("low",))}
    rows = recommend_trials(users, seen, catalogue, trials, 1, ListSettings(), threads=1).collect()
    assert positions(rows) == {(0, 1): [3, 2], (7, 1): [1, 2], (7, 2): [2, 1]}


def test_seen_ids_of_a_narrower_type_are_known_and_a_block_lists_users_in_order(spark, catalogue):
    users = spark.createDataFrame([(u, [1.0], None) for u in range(30, 0, -1)], USERS)
    seen = spark.createDataFrame([(u, 4) for u in range(1, 31)], "user_id int, position int")
    rows = recommend_trials(
        users, seen, catalogue, {0: Ranking("up", "vector", 1)}, 7, ListSettings(), threads=1
    ).collect()
    assert positions(rows) == {(0, u): [3] for u in range(1, 31)}
    rows = recommend_trials(
        users, seen, catalogue, {0: Ranking("up", "vector", 1)}, 1, ListSettings(), threads=1
    ).collect()
    assert [r.user_id for r in rows] == list(range(1, 31))


def test_4097_users_make_three_blocks_of_2048():
    assert [blocks_for(users, ListSettings()) for users in (0, 1, 2048, 2049, 4097)] == [1, 1, 1, 2, 3]
