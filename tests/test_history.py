"""What nights a lake holds, what their tables were made from, and what may go, on manifests written by hand."""

import datetime
import json
from pathlib import Path

import pytest

from recspark import history
from recspark.errors import RunFailed, UserError
from recspark.lake import Lake, nights
from recspark.lake.lock import RunLock
from recspark.lake.nights import MODELS, Place, parts, plan, remove

FIRST, SECOND, THIRD = (datetime.date(2026, 1, day) for day in (1, 2, 3))
VERSION = "2026-01-01-aaaaaaaa"


def put(lake: Lake, path: str, fingerprint: str, *inputs: str, **about) -> None:
    """A part with one file; inputs: path=fingerprint."""
    given = {}
    for text in inputs:
        place, _, theirs = text.rpartition("=")
        given[place.rpartition("/")[0]] = {"path": f"{lake.root}/{place}", "rows": 5, "fingerprint": theirs}
    about = {"rows": 5, "written_at": "2026-01-02T03:04:05", "stage": "embed", "code_version": "1", **about}
    lake.write_json(f"{path}/_manifest.json", {**about, "fingerprint": fingerprint, "inputs": given})
    lake.write_file(f"{path}/part.parquet", "rows")


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal in which nothing is wrapped."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    """Three nights; the second took texts from the first, the third uses the first's retriever and the second's lists."""
    lake = Lake(str(tmp_path / "lake"), THIRD)
    put(lake, f"{MODELS}/retriever/version={VERSION}", "r")
    for date in (FIRST, SECOND, THIRD):
        for table in ("items", "user_factors", "item_factors"):
            put(lake, f"{table}/run_date={date}", f"{table}{date.day}")
        lake.write_file(f"logs/run_date={date}/run.jsonl", "{}")
        lake.write_file(f"tensorboard/finetune/run_date={date}/events", "")
    put(lake, f"text_vectors/run_date={FIRST}", "t1")
    put(lake, f"text_vectors/run_date={SECOND}", "t2", f"text_vectors/run_date={FIRST}=t1")
    put(lake, f"candidates/run_date={SECOND}", "c2")
    retriever = f"models/retriever/version={VERSION}=r"
    put(
        lake,
        f"item_vectors/run_date={THIRD}",
        "v3",
        f"items/run_date={THIRD}=items3",
        retriever,
        retriever_version=VERSION,
    )
    put(lake, f"pair_examples/run_date={THIRD}", "p3", f"candidates/run_date={SECOND}=c2")
    put(
        lake,
        f"recommendations/run_date={THIRD}",
        "l3",
        f"item_vectors/run_date={THIRD}=v3",
        f"items/run_date={THIRD}=other",
    )
    return lake


@pytest.fixture
def config(lake: Lake, tmp_path: Path) -> str:
    (tmp_path / "night.yaml").write_text(f"lake: {lake.root}")
    return str(tmp_path / "night.yaml")


def left(lake: Lake) -> set[str]:
    return {part.place.path for part in parts(lake)}


def test_what_a_kept_night_was_made_from_stays(lake: Lake):
    before = left(lake)
    planned = plan(lake, {THIRD}.__contains__)
    assert {part.place.path: why for part, why in planned.stays} == {
        f"candidates/run_date={SECOND}": f"pair_examples/run_date={THIRD}",
        f"models/retriever/version={VERSION}": f"item_vectors/run_date={THIRD}",
        f"user_factors/run_date={FIRST}": f"models/retriever/version={VERSION}",  # what the version folds users in with
        f"item_factors/run_date={FIRST}": f"models/retriever/version={VERSION}",
    }
    remove(lake, {THIRD}.__contains__)
    gone = {f"{t}/run_date={d}" for t, d in [("items", FIRST), ("items", SECOND), ("text_vectors", FIRST)]}
    gone |= {f"{t}/run_date={SECOND}" for t in ("text_vectors", "user_factors", "item_factors")}
    assert before - left(lake) == gone
    assert lake.names("logs") == lake.names("tensorboard/finetune") == [f"run_date={THIRD}"]
    assert lake.names("_scratch") == ["replaced"]
    assert lake.names("_scratch/replaced") == []
    assert not plan(lake, {THIRD}.__contains__).goes  # there is nothing more to do


def test_by_pointer_what_a_manifest_leads_to_goes_with_it_and_what_none_leads_to_with_its_date(lake: Lake):
    def folder(table: str, date: datetime.date, version: str) -> str:
        return f"_tables/{table}/run_date={date}/version={version}"

    for version in "ab":
        for date in (FIRST, SECOND, THIRD):
            lake.write_file(f"{folder('items', date, version + str(date.day))}/part.parquet", "rows")
        lake.write_file(f"{folder('candidates', SECOND, version + '2')}/part.parquet", "rows")
    for date in (FIRST, SECOND, THIRD):
        place = f"items/run_date={date}"
        lake.delete(place)
        facts = {
            "rows": 5,
            "written_at": "",
            "stage": "preprocess",
            "code_version": "1",
            "fingerprint": f"items{date.day}",
        }
        lake.write_json(f"{place}/_manifest.json", {**facts, "folder": folder("items", date, f"b{date.day}")})
    manifest = f"candidates/run_date={SECOND}/_manifest.json"
    lake.write_json(manifest, {**lake.get_json(manifest), "folder": folder("candidates", SECOND, "b2")})

    unmade = f"{MODELS}/retriever/version={SECOND}-0000aaaa"  # by a run that was killed before the manifest
    lake.write_file(f"{unmade}/weights", "half")

    remove(lake, {THIRD}.__contains__)
    assert not lake.exists(unmade)
    assert lake.names("items") == [f"run_date={THIRD}"]
    assert lake.names("_tables/items") == [f"run_date={THIRD}"]
    assert lake.names("_tables/candidates") == [f"run_date={SECOND}"]  # the third night's pairs were made from it
    assert lake.names("_scratch/replaced") == []


def test_a_version_that_is_promoted_or_was_before_stays_with_its_factors(lake: Lake):
    lake.delete(f"item_vectors/run_date={THIRD}")
    assert f"models/retriever/version={VERSION}" in {part.place.path for part in plan(lake, {THIRD}.__contains__).goes}
    log = [{"version": VERSION, "act": "promote", "at": "", "by": ""}]
    lake.write_json(f"{MODELS}/retriever/promotions.json", {"log": log})
    planned = plan(lake, {THIRD}.__contains__)
    assert (Place(f"{MODELS}/retriever", f"version={VERSION}"), "its promotion") in {
        (p.place, why) for p, why in planned.stays
    }
    assert f"user_factors/run_date={FIRST}" not in {part.place.path for part in planned.goes}


def test_the_pretrained_model_of_a_version_that_stays_stays_with_it(lake: Lake):
    pretrained = f"models/pretrained/version={FIRST}-0000aaaa"
    put(lake, pretrained, "p")
    assert pretrained in {part.place.path for part in plan(lake, {THIRD}.__contains__).goes}
    put(lake, f"{MODELS}/retriever/version={VERSION}", "r", f"{pretrained}=p")
    why = {part.place.path: reason for part, reason in plan(lake, {THIRD}.__contains__).stays}
    assert why[pretrained] == f"models/retriever/version={VERSION}"


def test_a_date_that_a_run_writes_stays(lake: Lake):
    with RunLock(lake, FIRST).held():
        planned = plan(lake, {THIRD}.__contains__)
        assert not [part for part in planned.goes if part.place.date == FIRST]
        assert f"logs/run_date={FIRST}" not in planned.beside
        assert (Place("items", f"run_date={FIRST}"), "a run that writes the date") in {
            (p.place, w) for p, w in planned.stays
        }


def test_no_run_can_write_a_date_while_it_is_removed(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    tried = []

    def withdraw(files: Lake, planned: nights.Vacuum) -> None:
        for date in {part.place.date for part in planned.goes}:
            with pytest.raises(RunFailed, match="is being written by another run"):
                RunLock(lake, date).take()
            tried.append(date)

    monkeypatch.setattr(nights, "withdraw", withdraw)
    remove(lake, {THIRD}.__contains__)
    assert {FIRST, SECOND} == set(tried)
    assert not nights.locked_dates(lake)


def test_the_newest_lists_that_were_published_stay_whatever_came_after(lake: Lake):
    lake.delete(f"recommendations/run_date={THIRD}")
    put(lake, f"recommendations/run_date={FIRST}", "l1", f"text_vectors/run_date={FIRST}=t1")
    planned = plan(lake, {THIRD}.__contains__)
    why = {part.place.path: reason for part, reason in planned.stays}
    assert why[f"recommendations/run_date={FIRST}"] == "the newest lists that are published"
    assert f"text_vectors/run_date={FIRST}" in why  # with the whole of their night
    assert f"logs/run_date={FIRST}" not in planned.beside


def test_while_a_run_writes_nothing_is_removed(lake: Lake, config: str):
    before = left(lake)
    with (
        RunLock(lake, THIRD).held(),
        pytest.raises(RunFailed, match="a run is writing 2026-01-03 and may read what would go"),
    ):
        history.vacuum(config, [], 1, None, True, THIRD)
    assert left(lake) == before
    (Path(lake.root) / "_locks" / f"run_date={THIRD}.json.abc.tmp").write_text(
        ""
    )  # of a run that was killed as it wrote
    (Path(lake.root) / "README").write_text("a file among the tables")
    history.vacuum(config, [], 1, None, True, THIRD)
    assert left(lake) < before


def test_an_empty_lake_has_nothing_to_keep(tmp_path: Path):
    (tmp_path / "night.yaml").write_text(f"lake: {tmp_path}/lake")
    with pytest.raises(UserError, match="holds no night"):
        history.vacuum(str(tmp_path / "night.yaml"), [], 1, None, True, THIRD)


def test_vacuum_says_what_it_would_do_and_does_it_only_when_told_to(lake: Lake, config: str, capsys):
    before = left(lake)
    history.vacuum(config, [], 1, None, False, THIRD)
    said = capsys.readouterr().out
    assert "would remove 6 tables and models of 2 dates, 2026-01-01 to 2026-01-02, and 4 folders beside" in said
    assert "nothing was removed; --delete does it" in said
    assert left(lake) == before
    history.vacuum(config, [], None, 1, True, THIRD)  # not older than a day: the first goes
    assert "removed 1 table or model of 1 date, 2026-01-01" in capsys.readouterr().out
    assert f"text_vectors/run_date={FIRST}" in left(lake)  # the second was made from it


@pytest.mark.parametrize(
    ("keep", "days", "said"),
    [
        (None, None, "needs one of --keep"),
        (1, 1, "needs one of --keep"),
        (None, 3, "nothing would stay: the newest of 3 nights is 2026-01-03"),
    ],
)
def test_what_would_leave_nothing_or_means_nothing_is_refused(config: str, keep, days, said):
    with pytest.raises(UserError, match=said):
        history.vacuum(config, [], keep, days, True, datetime.date(2027, 1, 1))


def test_history_shows_the_newest_first_and_which_were_not_published(lake: Lake, config: str, capsys):
    history.show_history(config, [], 2)
    said = capsys.readouterr().out
    assert "3 nights" in said
    assert said.index(str(THIRD)) < said.index(str(SECOND))
    second = next(line for line in said.splitlines() if line.startswith(str(SECOND)))
    assert "not published" in second
    assert VERSION in next(line for line in said.splitlines() if line.startswith(str(THIRD)))
    assert str(FIRST) not in said.replace(VERSION, "")
    assert "1 more (--top)" in said


def test_lineage_goes_down_and_tells_what_has_changed(lake: Lake, config: str, capsys):
    history.show_lineage(config, [], "recommendations", None)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"recommendations/run_date={THIRD}  5 rows, embed 2026-01-02 03:04, release 1")
    assert any(f"models/retriever/version={VERSION}" in line for line in lines)
    history.show_lineage(config, [], "pair_examples", THIRD)
    assert "made anew" not in capsys.readouterr().out
    put(lake, f"candidates/run_date={SECOND}", "another")
    history.show_lineage(config, [], "pair_examples", THIRD)
    assert "has been made anew since, with other content" in capsys.readouterr().out
    lake.delete(f"candidates/run_date={SECOND}")
    history.show_lineage(config, [], "pair_examples", THIRD)
    assert "is no longer there" in capsys.readouterr().out


def test_lineage_is_that_of_the_newest_date_that_is_whole(lake: Lake, config: str, capsys):
    """A write that was ended leaves a folder without a manifest."""
    (Path(lake.root) / "recommendations" / "run_date=2026-12-31").mkdir()
    history.show_lineage(config, [], "recommendations", None)
    assert "2026-12-31" not in capsys.readouterr().out


def test_a_table_that_is_not_there_is_said(config: str):
    with pytest.raises(UserError, match=r"no table is called lists; tables are base_text_vectors, candidates"):
        history.show_lineage(config, [], "lists", None)
    with pytest.raises(UserError, match=r"of run date 2026-01-01 is not in the lake .*; it has 2026-01-03"):
        history.show_lineage(config, [], "recommendations", FIRST)
    with pytest.raises(UserError, match="run the pipeline first"):
        history.show_lineage(config, [], "rejects", None)


def test_manifests_are_what_the_lake_writes(tmp_path: Path):
    """The real thing's inputs are read as these by hand are."""
    lake = Lake(str(tmp_path / "lake"), THIRD)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("1")
    lake.begin("factorize")
    lake.write_model("factors", tmp_path / "model")
    lake.begin("finetune")
    lake.read_model("factors")
    lake.write_model("retriever", tmp_path / "model")
    factors, retriever = parts(lake)
    (given,) = retriever.inputs
    assert given.place == factors.place
    assert given.fingerprint == factors.fingerprint
    assert json.loads((Path(lake.root) / factors.place.path / "_manifest.json").read_text())["stage"] == "factorize"
