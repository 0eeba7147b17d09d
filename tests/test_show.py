"""What `recspark show` prints, to the letter where it matters; without Spark."""

import datetime
import re
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from recspark import show
from recspark.errors import UserError
from recspark.lake import Lake
from recspark.lookup import Lookup, near_ids, typed_id
from recspark.tables import INTERACTIONS, ITEM_VECTORS, ITEMS, RECOMMENDATIONS, USERS
from tests.published_world import HEBREW, SCRIPT, TODAY, YESTERDAY, published_lake
from tests.table_rows import write


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return published_lake(tmp_path)


@pytest.fixture
def shown(lake, tmp_path, capsys, monkeypatch):
    """Call show.user or show.item over the lake in a terminal so wide; gives the printed lines."""
    path = tmp_path / "conf.yaml"
    path.write_text(f"lake: {lake.root}\nencoder: {{path: '${{NOT_SET}}'}}\n")

    def call(what, which: str, top: int = 10, date=None, width: int = 80) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        what(str(path), date, [], which, top)
        lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
        assert max(map(len, lines)) <= width
        return lines

    return call


def words(lines: list[str]) -> list[str]:
    """Lines with runs of space as one."""
    return [" ".join(line.split()) for line in lines]


def test_user_has_history_list_and_what_came_of_it(shown):
    lines = words(shown(show.user, "u1"))
    assert lines[1] == "age 33"
    assert lines[3] == "History, newest first 1"  # not the test's event: the model did not know it
    assert f"2025-12-01 {SCRIPT} a 4.5 train" in lines
    ranks = [line for line in lines if re.match(r"\d ", line)]
    assert ranks[0] == f"1 {HEBREW} b 0.5000"
    assert ranks[1] == "2 🎬 $x^2$ [bold]Über[/bold] c 0.4000 ✓ yes"
    assert ranks[2].startswith("3 A title that goes on and on")
    assert ranks[2].endswith("… d 0.3000")
    assert (
        " ".join(lines[-2:]) == "Later chose 1 held-out item: 1 of them among the 3 recommended, the first at rank 2."
    )


def test_newest_events_come_first_and_as_many_as_asked(shown, lake):
    events = [("u1", "abcdef"[n], n, datetime.datetime(2025, 12, 1 + n), None, 1.0, None, "train") for n in range(6)]
    write(lake, INTERACTIONS, events)
    lines = words(shown(show.user, "u1", top=2))
    assert "History, newest first 2 of 6" in lines
    assert [line[:10] for line in lines if line.startswith("2025")] == ["2025-12-06", "2025-12-05"]
    assert not any("rating" in line for line in lines)


def test_user_without_history_gets_no_table_of_it(shown):
    lines = words(shown(show.user, "u3"))
    assert "nothing yet: the list is the average user's" in lines
    assert lines[-2:] == [
        "Nothing is held out of this user's events, so nobody knows what was chosen",
        "later.",
    ]


def test_newest_date_is_shown_unless_one_is_given(shown, lake):
    assert str(TODAY) in shown(show.user, "u1")[0]
    write(Lake(lake.root, TODAY.replace(day=3)), ITEMS, [])  # a run that has not published yet
    assert str(TODAY) in shown(show.user, "u1")[0]
    with pytest.raises(UserError, match=r"table users of run date 2026-01-01 is not in the lake"):
        shown(show.user, "u1", date=YESTERDAY)


def test_item_has_text_attributes_events_and_neighbours(shown):
    """Priors of a and b point up, the others along the first axis; vectors all point the same way."""
    lines = words(shown(show.item, "a"))
    assert f"title {SCRIPT}" in lines
    assert "genres Action Sci-Fi" in lines
    assert "events 1 (1 train)" in lines
    by_text = lines[lines.index("Nearest by text") + 3 :]
    assert by_text[0] == f"0.997 {HEBREW} b"  # (0.6, 1) and (0.5, 1)
    assert by_text[1].startswith("0.514 ")
    by_both = lines[lines.index("Nearest by text and events") + 3 :]
    assert [line.split()[0] for line in by_both] == ["1.000"] * 5


def test_cold_item_is_called_cold(shown):
    assert "events none: a cold item, placed by its text alone" in words(shown(show.item, "f"))


def test_terminal_cannot_be_steered_by_a_title(shown):
    assert not any("\x1b" in line for line in shown(show.item, "f", width=120))


def test_wide_terminals_have_both_lists_side_by_side(shown):
    assert any(
        "Nearest by text and events" in line and line.startswith("Nearest by text ")
        for line in shown(show.item, "a", width=120)
    )


def test_unknown_ids_are_told_with_those_near_them(shown):
    with pytest.raises(
        UserError, match=r"user U2 is not in table users of run date 2026-01-02; near it are u2, u1, u3$"
    ):
        shown(show.user, "U2")
    with pytest.raises(UserError, match=r"item cc is not in table items .* near it are d, e, f$"):
        shown(show.item, "cc")


def test_an_item_that_is_newer_than_the_vectors_is_told(shown, lake):
    """The catalogue was made anew with a new item, and embed has not run since."""
    rows = Lookup(lake, ITEMS).dataset.to_table().to_pylist()
    write(lake, ITEMS, [tuple({**rows[0], "item_id": "new"}.values()), *(tuple(row.values()) for row in rows)])
    with pytest.raises(
        UserError, match=r"item new is in the catalogue of run date 2026-01-02 and has no vector yet.*--from embed"
    ):
        shown(show.item, "new")


def test_missing_tables_are_told(shown, lake):
    lake.remove(lake.partition(INTERACTIONS))
    with pytest.raises(UserError, match=r"table interactions of run date 2026-01-02 is not in the lake"):
        shown(show.user, "u1")
    with pytest.raises(
        UserError, match=r"table recommendations of run date 2020-01-01 .*it has 2026-01-01, 2026-01-02"
    ):
        shown(show.user, "u1", date=datetime.date(2020, 1, 1))
    lake.fs.delete_dir(lake.path(RECOMMENDATIONS.name))
    with pytest.raises(UserError, match=r"run the pipeline first"):
        shown(show.user, "u1")


@pytest.mark.parametrize("id_type", [pa.int32(), pa.int64(), pa.decimal128(25, 0)], ids=str)
def test_whole_numbers_are_found_as_numbers(shown, lake, id_type):
    big = 2**31 - 1 if id_type == pa.int32() else 2**62 if id_type == pa.int64() else 10**24
    ids = [Decimal(n) if pa.types.is_decimal(id_type) else n for n in (7, 30, big)]
    write(lake, USERS, [(i, 1, None) for i in ids], id_type)
    write(lake, ITEMS, [(i, f"title {i}", "text", "hash", [1], {}) for i in ids], id_type)
    write(lake, INTERACTIONS, [(ids[2], ids[0], 0, None, None, 1.0, None, "train")], id_type)
    write(lake, RECOMMENDATIONS, [(ids[2], 1, ids[1], 0.5, "model", None, None)], id_type)
    write(lake, ITEM_VECTORS, [(i, [1.0], [1.0], 0, 1.0, "hash", "model") for i in ids], id_type)
    lines = words(shown(show.user, str(big)))
    assert "1 title 30 30 0.5000" in lines
    assert "title 7 7 train" in lines
    assert f"1.000 title {big} {big}" in words(shown(show.item, "7", width=99))
    with pytest.raises(UserError, match=f"near it are 7, 30, {big}"):
        shown(show.user, "8")
    with pytest.raises(UserError, match=r"user ids of this lake are whole numbers .* found '8a'"):
        shown(show.user, "8a")


def test_number_too_great_for_the_type_is_told():
    with pytest.raises(UserError, match=r"whole numbers"):
        typed_id("user", str(2**70), pa.int64())


def test_near_text_is_ordered_by_length_first():
    assert near_ids(pa.chunked_array([["9", "10", "998"], ["1000"]]), "999") == ["9", "10", "998", "1000"]
    assert near_ids(pa.chunked_array([pa.array([], pa.string())]), "999") == []


def test_neighbours_are_best_over_all_batches_and_ties_go_by_id(lake):
    write(
        lake, ITEM_VECTORS, [(f"i{n}", [1.0, 0.0], [1.0, n % 3], 0, 1.0, "hash", "model") for n in reversed(range(9))]
    )
    lookup = Lookup(lake, ITEM_VECTORS)
    found = lookup.nearest("prior", np.array([1, 0], np.float32), 3, "i0")
    assert [which for which, _ in found] == ["i3", "i6", "i1"]
    assert found[0][1] == pytest.approx(1.0)
