"""The tokenizer of a pre-training: a model's own, or a vocabulary learned from the corpus by the `tokenizers` library.

Each way is its settings. To add one: write the class here and add its name to `Vocabulary`.
"""

import logging
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recspark.config import Settings
from recspark.errors import UserError

log = logging.getLogger("recspark")


class Specials(Settings):
    """Tokens that stand for something else than text."""

    pad: str = "[PAD]"
    unknown: str = "[UNK]"
    first: str = Field("[CLS]", description="before a text, where the model reads both ways")
    last: str = Field("[SEP]", description="after a text")
    mask: str = "[MASK]"
    more: tuple[str, ...] = Field((), description="of your own, never split")

    @model_validator(mode="after")
    def _distinct(self) -> "Specials":
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"special tokens must differ; found {list(self.names)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """In the order of their ids, from 0."""
        return (self.pad, self.unknown, self.first, self.last, self.mask, *self.more)


class OfModel(Settings):
    """The tokenizer of a model that is there."""

    kind: Literal["of_model"] = "of_model"
    path: str | None = Field(None, description="whose; if not set, that of the model which is continued")


class Learned(Settings):
    """What every learned vocabulary has."""

    size: int = Field(8000, ge=8, description="tokens, special ones included")
    min_frequency: int = Field(2, ge=1, description="occurrences below which nothing becomes a token")
    documents: int = Field(1_000_000, ge=1, description="at most so many texts of the corpus are learned from")
    specials: Specials = Specials()

    def learn(self, texts: Iterator[str], both_ways: bool) -> Any:
        """A fast transformers tokenizer. both_ways: whether texts get a first token beside the last.

        Raises UserError if the texts hold nothing to make a vocabulary of.
        """
        from tokenizers import Tokenizer, processors
        from transformers import PreTrainedTokenizerFast

        tokenizer: Tokenizer = self.untrained()
        try:
            tokenizer.train_from_iterator(texts, self.trainer())
        except Exception as error:  # Unigram gives up on what has no repetition
            raise UserError(f"pretrain.vocabulary: the corpus gives no {self.kind} vocabulary: {error}") from error  # type: ignore[attr-defined]
        found, names = tokenizer.get_vocab_size(), self.specials
        if found < self.size:
            log.warning("pretrain.vocabulary.size is %d, but the corpus gives %d tokens", self.size, found)
        text = f"{names.first} $A {names.last}" if both_ways else f"$A {names.last}"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=text,
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in (names.first, names.last)],
        )
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token=names.pad,
            unk_token=names.unknown,
            cls_token=names.first,
            sep_token=names.last,
            eos_token=names.last,
            mask_token=names.mask,
            additional_special_tokens=list(names.more),
        )

    def untrained(self) -> Any:
        raise NotImplementedError

    def trainer(self) -> Any:
        raise NotImplementedError


class WordPiece(Learned):
    """Words and their `##` pieces, as BERT has them; each Chinese character is a word (Devlin et al. 2019)."""

    kind: Literal["wordpiece"] = "wordpiece"
    lowercase: bool = True

    def untrained(self) -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        tokenizer = Tokenizer(models.WordPiece(unk_token=self.specials.unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    def trainer(self) -> Any:
        from tokenizers.trainers import WordPieceTrainer

        return WordPieceTrainer(
            vocab_size=self.size,
            min_frequency=self.min_frequency,
            special_tokens=list(self.specials.names),
            show_progress=False,
        )


class Bpe(Learned):
    """Byte pairs, as GPT-2 has them: no text is unknown (Sennrich et al. 2016, Radford et al. 2019)."""

    kind: Literal["bpe"] = "bpe"
    size: int = Field(8000, ge=300, description="tokens; 256 are the bytes")

    def untrained(self) -> Any:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers

        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        return tokenizer

    def trainer(self) -> Any:
        from tokenizers import pre_tokenizers
        from tokenizers.trainers import BpeTrainer

        return BpeTrainer(
            vocab_size=self.size,
            min_frequency=self.min_frequency,
            special_tokens=list(self.specials.names),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )


class Unigram(Learned):
    """The likeliest pieces under a unigram model; needs no spaces between words (Kudo 2018)."""

    kind: Literal["unigram"] = "unigram"

    def untrained(self) -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer

    def trainer(self) -> Any:
        from tokenizers.trainers import UnigramTrainer

        return UnigramTrainer(
            vocab_size=self.size,
            special_tokens=list(self.specials.names),
            unk_token=self.specials.unknown,
            show_progress=False,
        )


Vocabulary = Annotated[OfModel | WordPiece | Bpe | Unigram, Field(discriminator="kind")]
