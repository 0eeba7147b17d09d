"""How a model's card says that it is loaded; what else it tells, test_versions looks at."""

import pytest

from recspark.evaluation.card import loading
from recspark.lake.registry import Version


def version(adaptation: str = "lora") -> Version:
    return Version(
        "2026-01-02-1a2b3c4d", "/lake/model", {"settings": {"finetune": {"adaptation": {"kind": adaptation}}}}
    )


@pytest.mark.parametrize(
    ("name", "adaptation", "loads"),
    [
        ("factors", "lora", "Factors.load("),
        ("retriever", "lora", "SentenceTransformer("),
        ("retriever", "adapter", "load_retriever("),
        ("pretrained", "lora", "AutoModel.from_pretrained("),
    ],
)
def test_what_loads_by_a_line_is_told_with_it(name: str, adaptation: str, loads: str):
    assert f'{loads}"/lake/model")' in loading(name, version(adaptation))


@pytest.mark.parametrize("name", ["sequence", "sequence_held_out", "ratings", "reranker"])
def test_what_no_other_library_reads_is_not_said_to_be_read_by_one(name: str):
    told = loading(name, version())
    assert "/lake/model" in told
    assert "transformers" not in told
