from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import Field

from recspark.config import ConfigError, Settings, apply_override, dump, load, parse
from recspark.errors import UserError


class Cosine(Settings):
    kind: Literal["cosine"] = "cosine"
    temperature: float = Field(0.1, gt=0)


class Dot(Settings):
    kind: Literal["dot"] = "dot"
    bias: bool = True


class Section(Settings):
    top_k: int = Field(10, ge=1)
    score: Annotated[Cosine | Dot, Field(discriminator="kind")] = Dot()
    tags: tuple[str, ...] = ()


class Whole(Settings):
    name: str
    section: Section = Section()


def mistakes(raw: dict, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(raw, Whole, list(overrides))
    return caught.value.mistakes


def test_defaults_fill_what_is_left_out():
    assert parse({"name": "x"}, Whole, []).section.top_k == 10


def test_unknown_key_names_the_nearest():
    assert mistakes({"name": "x", "section": {"topk": 3}}) == ["section.topk: unknown key; did you mean 'top_k'?"]


def test_unknown_key_in_a_union_member_names_the_nearest_of_that_member():
    found = mistakes({"name": "x", "section": {"score": {"kind": "cosine", "temprature": 1}}})
    assert found == ["section.score.cosine.temprature: unknown key; did you mean 'temperature'?"]


def test_unknown_key_like_no_other_lists_the_valid_ones():
    assert mistakes({"name": "x", "section": {"zzz": 3}}) == [
        "section.zzz: unknown key; valid keys: score, tags, top_k"
    ]


def test_wrong_kind_lists_the_right_ones():
    (line,) = mistakes({"name": "x", "section": {"score": {"kind": "dott"}}})
    assert "'cosine', 'dot'" in line


def test_all_mistakes_come_at_once():
    found = mistakes({"nmae": "x", "section": {"top_k": 0, "tags": 3}}, "section.score.kind=dit", "nonsense")
    assert len(found) == 6
    assert any(line.startswith("name: is required") for line in found)
    assert any(line.startswith("section.top_k:") and "found 0" in line for line in found)
    assert any(line.startswith("--set nonsense") for line in found)


def test_override_is_read_as_yaml_and_makes_missing_sections():
    assert parse({"name": "x"}, Whole, ["section.top_k=7", "section.tags=[a, b]"]).section == Section(
        top_k=7, tags=("a", "b")
    )


def test_override_goes_into_a_section_that_is_there_and_empty():
    raw = {"section": None}
    apply_override(raw, "section.a=3", mistakes := [])
    assert (raw, mistakes) == ({"section": {"a": 3}}, [])


def test_environment_is_filled_in_and_never_dumped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RECSPARK_TEST_SECRET", "s3cret")
    file = tmp_path / "c.yaml"
    file.write_text("name: 'token ${RECSPARK_TEST_SECRET}'\nsection: {tags: ['${RECSPARK_TEST_ABSENT:-plain}']}\n")
    settings = load(file, Whole)
    assert (settings.name, settings.section.tags) == ("token s3cret", ("plain",))
    assert dump(settings, file)["name"] == "token ${RECSPARK_TEST_SECRET}"
    assert dump(settings, file)["section"]["top_k"] == 10
    assert dump(settings, file, ["name=plain"])["name"] == settings.name  # what the file says was not used
    override = "section.tags=['a ${RECSPARK_TEST_SECRET}']"
    tagged = dump(load(file, Whole, [override]), file, [override])
    assert tagged["section"]["tags"] == ["a ${RECSPARK_TEST_SECRET}"]


def test_missing_environment_variable_is_named_with_its_path():
    (line,) = mistakes({"name": "${RECSPARK_TEST_ABSENT}"})
    assert line.startswith("name: environment variable RECSPARK_TEST_ABSENT is not set")


def test_settings_are_frozen():
    with pytest.raises(Exception, match="frozen"):
        Section().top_k = 3


@pytest.mark.parametrize(("text", "message"), [("a: [1", "not valid YAML"), ("- 1", "mapping of sections")])
def test_a_broken_file_is_one_clear_error(tmp_path: Path, text: str, message: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UserError, match=message):
        load(tmp_path / "c.yaml", Whole)


def test_a_missing_file_is_one_clear_error(tmp_path: Path):
    with pytest.raises(UserError, match="does not exist"):
        load(tmp_path / "none.yaml", Whole)
