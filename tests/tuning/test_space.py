"""Which settings may be searched, and what a trial's settings are."""

import pytest

from recspark import config
from recspark.config import ConfigError
from recspark.pipeline import PIPELINE, Deployment, stage_name
from recspark.stages.trials import TRIAL
from recspark.tuning.space import FloatRange, IntRange, own_values, put, suggest

RATE = {"kind": "float", "low": 1e-4, "high": 1e-2, "log": True}


def raw(space: dict, **sections: dict) -> dict:
    return {
        "lake": "lake",
        "encoder": {"path": "none"},
        "preprocess": {
            "interactions": {"path": "none"},
            "split": {"kind": "random"},
            "items": {"path": "none", "text": "{title}"},
        },
        "tune": {"space": space},
        **sections,
    }


def deployment(space: dict, **sections: dict) -> Deployment:
    return config.parse(raw(space, **sections), Deployment, [])


def mistakes(space: dict, **sections: dict) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        deployment(space, **sections)
    return caught.value.mistakes


class Lowest:
    """Draws the lowest, or the first, of everything."""

    def suggest_int(self, name, low, high, *, step, log):
        return low

    def suggest_float(self, name, low, high, *, log):
        return low

    def suggest_categorical(self, name, choices):
        return choices[0]


def test_three_mistakes_come_at_once_each_with_its_path_and_the_nearest_key():
    found = mistakes(
        {
            "finetune.epoch": {"kind": "int", "low": 1, "high": 3},
            "preprocess.split.test": {"kind": "float", "low": 0.1, "high": 0.2},
            "factorise.blocks": {"kind": "int", "low": 1, "high": 3},
        }
    )
    assert len(found) == 3
    assert found[0] == "tune.space.finetune.epoch: unknown key 'epoch'; did you mean 'finetune.epochs'?"
    assert found[1].startswith("tune.space.preprocess.split.test: preprocess cannot be searched: all trials share one")
    assert found[2] == "tune.space.factorise.blocks: unknown key 'factorise'; did you mean 'factorize'?"


@pytest.mark.parametrize("path", ["lake", "spark.driver_memory", "evaluate.replicates", "encoder.max_length", "seed"])
def test_what_all_trials_share_is_refused(path: str):
    (found,) = mistakes({path: {"kind": "choice", "of": [1, 2]}})
    assert f"{path.split('.')[0]} cannot be searched" in found


def test_hard_negatives_which_no_trial_has_are_refused():
    (found,) = mistakes({"finetune.pairs.hard_negatives": {"kind": "int", "low": 0, "high": 4}})
    assert (
        "finetune.pairs.hard_negatives cannot be searched: hard negatives come from the lists of an earlier date"
        in found
    )


def test_an_end_that_its_field_does_not_take_is_a_mistake_and_the_other_end_is_none():
    (found,) = mistakes({"factorize.frequency_exponent": {"kind": "float", "low": 0.5, "high": 2.5}})
    assert found == "tune.space.factorize.frequency_exponent: 2.5: Input should be less than or equal to 2"


def test_a_section_or_a_key_below_a_value_is_no_setting():
    (section,) = mistakes({"finetune.adaptation": {"kind": "choice", "of": [1, 2]}})
    (below,) = mistakes({"finetune.epochs.number": {"kind": "int", "low": 1, "high": 2}})
    assert "is a section; name one of its keys" in section
    assert "unknown key 'number'" in below


def test_a_key_of_another_kind_is_a_mistake_unless_the_kind_is_searched_too():
    rank = {"kind": "int", "low": 2, "high": 32, "log": True}
    last = {"adaptation": {"kind": "last_layers", "layers": 1}}
    (found,) = mistakes({"finetune.adaptation.rank": rank}, finetune=last)
    assert "finetune.adaptation.kind is 'last_layers'" in found
    kinds = {"kind": "choice", "of": ["lora", "bitfit"]}
    deployment({"finetune.adaptation.rank": rank, "finetune.adaptation.kind": kinds}, finetune=last)


def test_a_changed_kind_starts_its_section_anew():
    settings = {"finetune": {"adaptation": {"kind": "last_layers", "layers": 1}, "epochs": 3}}
    changed = put(settings, {"finetune.adaptation.rank": 4, "finetune.adaptation.kind": "lora"})
    assert changed == {"finetune": {"adaptation": {"kind": "lora", "rank": 4}, "epochs": 3}}
    assert settings["finetune"]["adaptation"]["layers"] == 1  # the given settings are as they were


@pytest.mark.parametrize(("first", "second", "drawn"), [("lora", "bitfit", 2), ("bitfit", "lora", 1)])
def test_only_the_paths_of_the_suggested_kind_are_drawn(first: str, second: str, drawn: int):
    searched = deployment(
        {
            "finetune.adaptation.rank": {"kind": "int", "low": 2, "high": 32},
            "finetune.adaptation.kind": {"kind": "choice", "of": [first, second]},
        }
    )
    values = suggest(Lowest(), searched.tune.space, Deployment, searched.model_dump(mode="json"))
    assert len(values) == drawn
    config.parse(put(raw({}), values), Deployment, [])


def test_the_deployments_own_value_counts_only_within_its_range():
    settings = {"factorize": {"unobserved_weight": 0.5, "iterations": 8}}
    space = {
        "factorize.unobserved_weight": FloatRange(low=0.01, high=0.2),
        "factorize.iterations": IntRange(low=2, high=10, step=2),
    }
    assert own_values(space, Deployment, settings) == {"factorize.iterations": 8}


def test_trials_run_what_every_night_runs_between_preprocess_and_publish():
    names = [stage_name(stage) for stage in PIPELINE]
    between = names[names.index("preprocess") + 1 : names.index("publish")]
    asked_for = [name for name in between if Deployment.model_fields[name].default is None]
    assert asked_for == ["sequence", "combine", "ratings", "index", "rerank"]
    assert [stage_name(stage) for stage in TRIAL] == [name for name in between if name not in asked_for]


@pytest.mark.parametrize("wrong", [{"low": 3, "high": 1}, {"low": 1, "high": 4, "step": 2}, {"low": 0, "high": 4, "log": True}])  # fmt: skip
def test_ends_that_make_no_range_are_refused(wrong: dict):
    mistakes({"finetune.epochs": {"kind": "int", **wrong}})
