"""The tokenizer of a pre-training: a model's own, or a vocabulary learned from the corpus by the `tokenizers` library.

Each way is its settings. To add one: write the class here and add its name to `Vocabulary`.
"""

import json
import logging
import re
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from recspark.config import Settings
from recspark.errors import UserError

log = logging.getLogger("recspark")

Texts = Callable[[], Iterator[str]]  # the corpus, from its beginning each time

PIECE = re.compile(r"[^\s:$][^\s:]*")  # what the library's templates read as one token


class Specials(Settings):
    """Tokens that stand for something else than text."""

    pad: str = Field("[PAD]", description="fills up a batch; nothing looks at it")
    unknown: str = Field("[UNK]", description="a character that the corpus did not have")
    first: str = Field("[CLS]", description="before a text, where the model reads both ways")
    last: str = Field("[SEP]", description="after a text")
    mask: str = Field("[MASK]", description="what masked_lm puts in the place of a word")
    more: tuple[str, ...] = Field((), description="of your own, never split")

    @model_validator(mode="after")
    def _distinct_words(self) -> "Specials":
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"special tokens must differ; found {list(self.names)}")
        for name in (self.first, self.last):  # which stand in a template of the tokenizers library
            if not PIECE.fullmatch(name):
                raise ValueError(
                    f"first and last are one word each, without a colon, and do not begin with $; found {name!r}"
                )
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
    lowercase: bool = Field(False, description="upper and lower case are one")
    min_frequency: int = Field(
        2,
        ge=1,
        description="occurrences below which nothing becomes a token; a unigram vocabulary goes by probabilities alone",
    )
    documents: int = Field(1_000_000, ge=1, description="at most so many texts of the corpus are learned from")
    specials: Specials = Specials()

    def learn(self, texts: Texts, both_ways: bool) -> Any:
        """A fast transformers tokenizer. both_ways: whether texts get a first token beside the last.

        Raises UserError if the size has no room for the signs that the texts are written in.
        """
        from tokenizers import Tokenizer, processors
        from transformers import PreTrainedTokenizerFast

        tokenizer: Tokenizer = self.trained(texts)
        found, names = tokenizer.get_vocab_size(), self.specials
        if found > self.size:
            raise too_small(self.size, found)
        if found < self.size:
            log.warning("pretrain.vocabulary.size is %d, but the corpus gives %d tokens", self.size, found)
        text = f"{names.first} $A {names.last}" if both_ways else f"$A {names.last}"
        tokenizer.post_processor = processors.TemplateProcessing(
            single=text,
            pair=f"{text} $B:1 {names.last}:1",
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

    @abstractmethod
    def trained(self, texts: Texts) -> Any:
        """A tokenizer of the `tokenizers` library."""


class WordPiece(Learned):
    """Words and their `##` pieces, as BERT has them; each Chinese character is a word (Devlin et al. 2019).

    The library numbers the pieces of one sign in the order of a hash table, and lets these numbers decide between pairs that
    are equally frequent: two runs would differ. So they are given to it in order, as if they were special, and the
    vocabulary that comes out is put into a tokenizer where they are not.
    """

    kind: Literal["wordpiece"] = "wordpiece"
    lowercase: bool = Field(True, description="upper and lower case are one; accents go as well")

    def trained(self, texts: Texts) -> Any:
        from tokenizers.trainers import WordPieceTrainer

        tokenizer = self.tokenizer({self.specials.unknown: 0})
        trainer = WordPieceTrainer(
            vocab_size=self.size,
            min_frequency=self.min_frequency,
            special_tokens=[*self.specials.names, *self.later_signs(tokenizer, texts)],
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts(), trainer)
        return self.tokenizer(tokenizer.get_vocab())

    def tokenizer(self, vocabulary: dict[str, int]) -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=self.specials.unknown))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=self.lowercase)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer

    def later_signs(self, tokenizer: Any, texts: Texts) -> list[str]:
        """`##` and a sign, for every sign that stands in a word but not first, in order."""
        signs: set[str] = set()
        for text in texts():
            words = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
            signs.update(*(word[1:] for word, _ in words))
        return [f"##{sign}" for sign in sorted(signs)]


class Bpe(Learned):
    """Byte pairs, as GPT-2 has them: no text is unknown (Sennrich et al. 2016, Radford et al. 2019)."""

    kind: Literal["bpe"] = "bpe"
    size: int = Field(8000, ge=300, description="tokens; 256 are the bytes")

    def trained(self, texts: Texts) -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
        from tokenizers.trainers import BpeTrainer

        tokenizer = Tokenizer(models.BPE())
        if self.lowercase:
            tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = BpeTrainer(
            vocab_size=self.size,
            min_frequency=self.min_frequency,
            special_tokens=list(self.specials.names),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts(), trainer)
        return tokenizer


class Unigram(Learned):
    """The likeliest pieces under a unigram model; needs no spaces between words (Kudo 2018).

    The library adds up probabilities in the order of a hash table: scores are rounded and pieces put in order here, but two
    runs may still differ in pieces that are worth the same. Of the three kinds this is the one that is not repeatable.
    """

    kind: Literal["unigram"] = "unigram"

    def trained(self, texts: Texts) -> Any:
        from tokenizers.trainers import UnigramTrainer

        specials = list(self.specials.names)
        trainer = UnigramTrainer(
            vocab_size=self.size, special_tokens=specials, unk_token=self.specials.unknown, show_progress=False
        )
        tokenizer = self.tokenizer([(self.specials.unknown, 0.0)], 0)
        signs = len({sign for text in texts() for sign in tokenizer.normalizer.normalize_str(text)}) + len(specials)
        if signs >= self.size:  # the library would fail, or never end
            raise too_small(self.size, signs)
        tokenizer.train_from_iterator(texts(), trainer)
        scores = [(piece, round(score, 6)) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"]]
        pieces = sorted((pair for pair in scores if pair[0] not in specials), key=lambda pair: (-pair[1], pair[0]))
        return self.tokenizer([*((name, 0.0) for name in specials), *pieces], specials.index(self.specials.unknown))

    def tokenizer(self, scores: list[tuple[str, float]], unknown: int) -> Any:
        from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

        tokenizer = Tokenizer(models.Unigram(scores, unknown))
        lower = [normalizers.Lowercase()] if self.lowercase else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), *lower])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer


Vocabulary = Annotated[OfModel | WordPiece | Bpe | Unigram, Field(discriminator="kind")]


def too_small(size: int, signs: int) -> UserError:
    """What is said of a vocabulary that has no room for single signs."""
    return UserError(f"pretrain.vocabulary.size is {size}, but the corpus is written in {signs} signs; set it higher")
