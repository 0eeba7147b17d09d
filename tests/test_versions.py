"""Versions of a model: kept, promoted, gone back to, refused; and what `recspark models` prints. No Spark."""

import datetime
import errno
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recspark import runner, versions
from recspark.cli import app
from recspark.config import ConfigError
from recspark.doctor import inputs
from recspark.doctor.checkup import Checkup
from recspark.errors import UserError
from recspark.evaluation.card import model_card
from recspark.lake import Lake, promotions
from recspark.lake.registry import Registry
from recspark.pipeline import NIGHT
from recspark.stages.versions import chosen_retriever, keep_card, settled
from tests import nightly
from tests.published_world import deployment

FACTORS = {name: {"path": "", "rows": 1200, "fingerprint": f"of {name}"} for name in ("user_factors", "item_factors")}
SETTINGS = {
    "encoder": {"path": "bert"},
    "finetune": {"adaptation": {"kind": "last_layers", "layers": 2}, "objective": {"kind": "all_pairs"}},
}
ABOUT = {
    "inputs": FACTORS,
    "parameters": {"all": 3000, "learned": 1000},
    "tokenized_by": {"encoder": "e" * 64, "max_length": 32},
}


def make(lake: Lake, content: str, day: int = 2) -> str:
    """Write a retriever of that content for a day of January 2026, with its factor tables; returns its version."""
    other = Lake(lake.root, datetime.date(2026, 1, day), facts={"settings": SETTINGS})
    folder = Path(lake.scratch("model"))
    (folder / "weights").write_text(content)
    other.write_model("retriever", folder, **ABOUT)
    for table, facts in FACTORS.items():
        other.write_json(f"{table}/run_date={other.run_date}/_manifest.json", facts)
    return other.model_of_date("retriever").id


def judge(lake: Lake, version: str, day: int, full: float, k: int = 10) -> None:
    rows = [
        {
            "model": m,
            "slice": "all",
            "metric": "ndcg",
            "k": k,
            "value": v,
            "low": v - 0.05,
            "high": v + 0.05,
            "users": 7,
        }
        for m, v in (("popularity", 0.125), ("full", full))
    ]
    lake.registry("retriever").keep_metrics(version, datetime.date(2026, 1, day), rows)


@pytest.fixture
def registry(lake: Lake) -> Registry:
    return lake.registry("retriever")


@pytest.fixture
def conf(lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A configuration of which only the lake is valid."""
    monkeypatch.setenv("COLUMNS", "120")
    (tmp_path / "conf.yaml").write_text(f"lake: {lake.root}\nencoder: {{nonsense: 1}}\n")
    return str(tmp_path / "conf.yaml")


# ---- kept


def test_a_second_run_of_a_date_adds_a_version_and_is_the_dates_own_from_then_on(lake: Lake, registry: Registry):
    first, second = make(lake, "one"), make(lake, "two")
    assert first != second
    assert set(registry.ids()) == {first, second}
    assert lake.model_of_date("retriever").id == second
    assert Path(registry.version(first).path, "weights").read_text() == "one"
    assert make(lake, "one") == first  # the same content is the same version, and the newest again
    assert len(registry.ids()) == 2
    assert lake.model_of_date("retriever").id == first
    assert lake.model_dates("retriever") == [lake.run_date]


def test_a_write_that_dies_leaves_no_version(lake: Lake, registry: Registry, monkeypatch: pytest.MonkeyPatch):
    """All its files are there, but for the manifest."""
    kept = make(lake, "one")
    with monkeypatch.context() as patched:
        patched.setattr(Lake, "write_json", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(lake, "two")
    assert len(lake.names("models/retriever")) == 2
    assert registry.ids() == [kept]
    assert lake.model_of_date("retriever").id == kept
    again = make(lake, "two")
    assert lake.read_model("retriever")[0].endswith(again)


def test_of_a_write_that_finds_the_disk_full_nothing_is_left(lake: Lake, monkeypatch: pytest.MonkeyPatch):
    def put_half(_: Lake, __: Path, path: str) -> None:
        Path(path).mkdir(parents=True)
        (Path(path) / "weights").write_text("12")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Lake, "put_folder", put_half)
    with pytest.raises(OSError, match="No space left"):
        make(lake, "one")
    assert lake.names("models/retriever") == []


def test_an_unknown_version_names_the_nearest(lake: Lake, registry: Registry):
    with pytest.raises(UserError, match=r"no version 2026-01-02-00000000 in the lake .*; it has none"):
        registry.version("2026-01-02-00000000")
    version, other = make(lake, "one"), make(lake, "two", day=9)
    with pytest.raises(UserError, match=f"nearest to it is {version}$"):
        registry.version(f"{version[:-1]}x")
    with pytest.raises(UserError, match=f"nearest to it is {other}$"):
        registry.version("2026-01-09")


# ---- promoted


def test_rollbacks_go_back_one_promotion_each(lake: Lake, registry: Registry):
    a, b, c, d = (make(lake, content, day) for day, content in enumerate("abcd", 1))
    assert promotions.promoted(registry) is None
    for version in (a, b, c):
        promotions.promote(registry, version)
    assert promotions.promoted(registry) == c
    assert promotions.rollback(registry) == b
    assert promotions.rollback(registry) == a
    with pytest.raises(UserError, match=f"no version was promoted before; {a} is the only one"):
        promotions.rollback(registry)
    promotions.promote(registry, d)
    assert promotions.history(registry) == [a, d]
    kept = json.loads(Path(lake.path("models/retriever/promotions.json")).read_text())
    assert kept["promoted"] == d
    acts = [(entry["act"], entry["version"]) for entry in kept["log"]]
    assert acts == [*(("promote", v) for v in (a, b, c)), ("rollback", b), ("rollback", a), ("promote", d)]
    assert all(entry["by"] and entry["at"].startswith("20") for entry in kept["log"])


def test_what_is_promoted_already_or_damaged_is_refused(lake: Lake, registry: Registry):
    a, b = make(lake, "a", 1), make(lake, "b", 2)
    promotions.promote(registry, a)
    with pytest.raises(UserError, match=f"{a} of model retriever is promoted already"):
        promotions.promote(registry, a)
    Path(registry.version(b).path, "weights").write_text("c")
    with pytest.raises(UserError, match=f"version {b} is damaged"):
        promotions.promote(registry, b)
    assert promotions.promoted(registry) == a

    promotions.promote(registry, make(lake, "d", 3))
    Path(registry.version(a).path, "more").touch()
    with pytest.raises(UserError, match=f"version {a} is damaged"):
        promotions.rollback(registry)
    assert len(promotions.log_of(registry)) == 2


def test_a_run_of_its_date_leaves_a_promoted_version_as_it_was(lake: Lake, registry: Registry):
    version = make(lake, "one")
    promotions.promote(registry, version)
    make(lake, "two")
    assert chosen_retriever(lake, "promoted").id == version
    assert chosen_retriever(lake, "tonight").id != version
    assert chosen_retriever(lake, version).id == version


# ---- used


def test_what_embed_may_be_told(lake: Lake):
    assert deployment(lake).embed.retriever == "tonight"
    for choice in ("promoted", "newest", "2026-01-02-1a2b3c4d"):
        assert deployment(lake, f"embed.retriever={choice}").embed.retriever == choice
    with pytest.raises(
        ConfigError, match=r"embed.retriever: must be tonight, newest, promoted, or a version .*; found 'latest'"
    ):
        deployment(lake, "embed.retriever=latest")
    with pytest.raises(UserError, match="no version is promoted in the lake"):
        chosen_retriever(lake, "promoted")


def test_a_night_with_a_version_that_is_there_trains_nothing(lake: Lake, registry: Registry):
    promotions.promote(registry, make(lake, "one"))
    plan = lambda *names: runner.planned(lake, deployment(lake, "embed.retriever=promoted"), names)  # noqa: E731
    assert plan(*NIGHT) == ["preprocess", "embed", "candidates", "evaluate", "publish"]
    assert plan("finetune", "embed") == ["embed"]
    assert plan("preprocess", "factorize", "finetune") == ["preprocess", "factorize", "finetune"]
    assert plan("finetune") == ["finetune"]
    assert runner.planned(lake, deployment(lake), NIGHT) == list(nightly.STAGES)
    with pytest.raises(
        UserError, match="nothing to run: the configuration has no section sequence, none combine; write one"
    ):
        plan("sequence", "combine")


def test_the_newest_version_serves_until_it_is_too_old_and_then_one_is_trained(
    lake: Lake, caplog: pytest.LogCaptureFixture
):
    """The lake's run date is the second of January."""

    def planned(day: int, *names: str, **retrain: float) -> list[str]:
        given = [f"embed.retrain.{name}={value}" for name, value in retrain.items()]
        night = Lake(lake.root, datetime.date(2026, 1, day))
        return runner.planned(night, deployment(night, "embed.retriever=newest", *given), names or NIGHT)

    def chosen(day: int, **retrain: float) -> tuple[str, str]:
        given = [f"embed.retrain.{name}={value}" for name, value in retrain.items()]
        night = Lake(lake.root, datetime.date(2026, 1, day))
        return settled(night, deployment(night, "embed.retriever=newest", *given))

    assert chosen(2) == ("tonight", "there is no version of an earlier date")
    version = make(lake, "one")
    assert chosen(2)[0] == "tonight"  # its own night, run again, trains again
    assert chosen(4, days=3) == (version, "it is 2 days old, and embed.retrain.days is 3")
    assert chosen(5, days=3) == ("tonight", f"version {version} is 3 days old, and embed.retrain.days is 3")
    assert planned(4) == ["preprocess", "embed", "candidates", "evaluate", "publish"]
    assert planned(4, "finetune") == []  # as a scheduler of single jobs runs it
    assert planned(9) == list(nightly.STAGES)
    with caplog.at_level("WARNING", "recspark"):
        assert planned(9, "embed", "candidates") == ["embed", "candidates"]
    assert "a retriever is due to be trained (version" in caplog.text
    assert planned(9, "finetune") == ["finetune"]
    assert planned(4, "preprocess", "factorize", "finetune") == ["preprocess", "factorize", "finetune"]

    judge(lake, version, 2, 0.4)
    judge(lake, version, 3, 0.3)
    assert chosen(4, quality_lost=0.3)[0] == version
    assert chosen(3, quality_lost=0.2)[0] == version  # a night's own metrics do not decide on it
    assert chosen(4, quality_lost=0.2) == (
        "tonight",
        f"25% of what version {version} had on its own night is lost, and embed.retrain.quality_lost is 0.2",
    )
    make(lake, "two", day=3)
    assert chosen(4)[0] != version
    lake.delete("item_factors")
    assert chosen(4)[1].startswith("the table item_factors that version 2026-01-03-")
    lake.write_json("item_factors/run_date=2026-01-03/_manifest.json", FACTORS["item_factors"])
    assert chosen(4)[0] != "tonight"
    typed = {**FACTORS["user_factors"], "schema": "struct<user_id:bigint,vector:array<float>>"}
    lake.write_json("user_factors/run_date=2026-01-03/_manifest.json", typed)
    for kind in ("bigint", "string"):
        schema = {"schema": f"struct<user_id:{kind},item_id:decimal(20,0)>"}
        lake.write_json("interactions/run_date=2026-01-04/_manifest.json", schema)
        assert (chosen(4)[0] == "tonight") == (kind == "string")
    assert "has a user_id of type bigint, and tonight's log one of type string" in chosen(4)[1]


def test_the_doctor_looks_for_the_version_and_its_factor_tables(lake: Lake, registry: Registry):
    visit = lambda *given: inputs.retriever(Checkup(deployment(lake, *given), lake))  # noqa: E731
    assert visit() == "tonight's, as finetune will make it"
    with pytest.raises(UserError, match="no version is promoted"):
        visit("embed.retriever=promoted")
    version = make(lake, "one")
    promotions.promote(registry, version)
    assert visit("embed.retriever=promoted").startswith(f"version {version}, by embed.retriever: promoted")
    lake.delete("item_factors")
    with pytest.raises(UserError, match=r"embed: version .* needs the table item_factors"):
        visit(f"embed.retriever={version}")


# ---- shown


def lines(*words: str, code: int = 0) -> list[str]:
    done = CliRunner().invoke(app, ["models", *words])
    assert done.exit_code == code, done.output
    return [" ".join(line.split()) for line in done.output.splitlines()]


def test_the_list_has_the_newest_first_with_metrics_and_the_promoted(lake: Lake, conf: str):
    a, b, c = (make(lake, content, day) for day, content in enumerate("abc", 1))
    judge(lake, a, 1, 0.25)
    judge(lake, a, 5, 0.5)
    judge(lake, b, 2, 0.9, k=5)
    for version in (a, b):
        assert lines("promote", version, "--config", conf)[0].startswith(f"{version} is promoted")
    shown = lines("list", "--config", conf)
    assert shown[0].startswith("retriever 3 versions, ")
    assert shown[1] == "version written ndcg@5 cold items nights"  # as the newest was measured
    assert [line.split()[0] for line in shown[3:6]] == [c, b, a]
    assert shown[4].endswith("0.9000 – 1 promoted")
    assert shown[5].endswith("– – 2 before")
    assert shown[6].startswith(f"{b} was promoted by ")
    assert lines("rollback", "--config", conf)[0] == f"{a} is promoted, was {b}"
    assert lines("list", "--config", conf)[6].startswith(f"{a} was gone back to by ")


def test_refusals_end_with_2_and_say_why(lake: Lake, conf: str, capsys: pytest.CaptureFixture[str]):
    lines("rollback", "--config", conf, code=2)
    version = make(lake, "one")
    lines("promote", f"{version}0", "--config", conf, code=2)
    lake.delete(f"user_factors/run_date={lake.run_date}")
    lines("promote", version, "--config", conf, code=2)
    assert promotions.log_of(lake.registry("retriever")) == []
    with pytest.raises(UserError, match=r"promote: version .* needs the table user_factors .* no longer there"):
        versions.promote(conf, [], version)


def test_the_card_tells_what_it_is_learned_from_and_how_it_did(lake: Lake, registry: Registry, conf: str):
    version = make(lake, "one")
    before = model_card("retriever", registry.version(version), registry.metrics(version))
    assert "It has not been evaluated." in before
    judge(lake, version, 2, 0.25)
    judge(lake, version, 6, 0.5)
    keep_card(lake, "retriever", version)
    card = Path(lake.path(f"models/retriever/cards/{version}.md")).read_text().splitlines()
    assert card[0] == f"# retriever {version}"
    for line in (
        "| base encoder | bert (`eeeeeeeeeeee…`), reads 32 tokens of a text |",
        "| adaptation | last_layers (layers 2) |",
        "| objective | all_pairs |",
        "| parameters that learned | 1,000 of 3,000 |",
        "| user_factors | 1,200 | `of user_factors` |",
        "The night of 2026-01-02: 7 users with something held out; means with 95 % bootstrap intervals.",
        "| popularity | all | 0.1250 [0.0750, 0.1750] | – | – |",
        "| full model | all | 0.2500 [0.2000, 0.3000] | – | – |",
        "| 2026-01-06 | 0.5000 [0.4500, 0.5500] | – |",
        f'SentenceTransformer("{registry.version(version).path}").encode(["a text"])  # unit length, before the head',
    ):
        assert line in card
    assert [line.strip() for line in lines("card", version, "--config", conf)] == [" ".join(x.split()) for x in card]
