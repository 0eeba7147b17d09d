"""Pairs by hand, and a head that starts at nothing."""

import numpy as np
import torch
from transformers import AutoModel, ModernBertConfig, ModernBertModel

from recspark.models.cross_encoder import (
    CrossEncoder,
    PairFormat,
    load_cross_encoder,
    lowest_layers,
    save_cross_encoder,
)
from recspark.models.encoder import EncoderConfig, TextEncoder, load_encoder, load_tokenizer
from recspark.retrieval.encode import scores_of
from tests.tiny_encoder import make_tiny_decoder

PAIRS = [np.array([2, *range(5, 5 + n), 3], np.int32) for n in (3, 9, 1)]


def test_a_pair_has_bert_s_marks_and_a_decoders_has_its_end_of_text_between(tiny_encoder, tmp_path):
    assert PairFormat.of(load_tokenizer(tiny_encoder, 8)) == PairFormat(1, 1, (2,), (3,), (3,))
    assert PairFormat.of(load_tokenizer(make_tiny_decoder(tmp_path), 8)) == PairFormat(0, 0, (), (0,), ())


def test_the_newest_event_comes_first_and_the_oldest_is_cut():
    form = PairFormat(1, 1, (2,), (3,), (3,))
    texts = [form.bare(np.array([2, *t, 3])) for t in ([10, 11, 12], [20], [30, 31])]
    history = form.history(texts, each=2, most=6)
    assert history.tolist() == [10, 11, 3, 20, 3, 30]
    assert form.pair(history, np.array([7, 8])).tolist() == [2, 10, 11, 3, 20, 3, 30, 3, 7, 8, 3]
    assert form.history([], 2, 6).tolist() == []
    assert form.pair(form.history([], 2, 6), np.array([], np.int32)).tolist() == [2, 3, 3]


def test_all_pairs_start_alike_and_a_saved_model_of_one_layer_scores_as_before(tiny_encoder, tmp_path):
    model = CrossEncoder(lowest_layers(load_encoder(tiny_encoder), 1)).eval()
    assert scores_of(model, PAIRS, 64).tolist() == [0, 0, 0]
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    save_cross_encoder(model, EncoderConfig(path=str(tiny_encoder)), tmp_path)
    again = load_cross_encoder(tmp_path)
    assert again.encoder.backbone.config.num_hidden_layers == 1
    scores = scores_of(model, PAIRS, 64)
    assert len(set(scores)) == 3
    assert np.allclose(scores_of(again, PAIRS, 4), scores, atol=1e-5)  # one pair a batch, in the order given


def test_a_model_whose_layers_are_of_several_kinds_loses_their_names_with_them(tmp_path):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 50}
    tokens = {f"{name}_token_id": 0 for name in ("pad", "bos", "eos", "cls", "sep")}
    encoder = TextEncoder(ModernBertModel(ModernBertConfig(num_hidden_layers=4, **sizes, **tokens)))
    lowest_layers(encoder, 2).backbone.save_pretrained(tmp_path)
    assert len(AutoModel.from_pretrained(tmp_path).config.layer_types) == 2
