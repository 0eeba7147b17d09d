"""A transformers model's folder: found, brought to this machine, looked over, known by its content."""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recspark.errors import UserError
from recspark.lake import local_folder
from recspark.models.bottleneck import BACKBONE, SETTINGS

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
WEIGHTS = ("model.safetensors", "model.safetensors.index.json")  # whole, or cut into several files
NAMED = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"),
    *("vocab.txt", "vocab.json", "merges.txt", "added_tokens.json"),
)
HUB_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.py")


@contextmanager
def quietly() -> Iterator[None]:
    """Without transformers' progress bars and its table of weights that are not those of the class: what matters is checked."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def load_weights(
    auto: Any, path: str | Path, folder: Path, trust_remote_code: bool, setting: str
) -> tuple[Any, list[str]]:
    """(model, names of the weights it lacks), by a transformers auto class, from safetensors, in float32.

    path: as it was given at `setting`, for messages. Raises UserError if it cannot be loaded, or is an encoder-decoder (T5),
    which needs a decoder's input beside the text.
    """
    import torch

    try:
        with quietly():
            model, report = auto.from_pretrained(
                str(folder),
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=trust_remote_code,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except Exception as error:
        raise UserError(f"{setting} {path} cannot be loaded: {str(error).splitlines()[0]}") from error
    if model.config.is_encoder_decoder:
        raise UserError(
            f"{setting} {path} is an encoder-decoder ({model.config.model_type}); give an encoder or a decoder"
        )
    return model, sorted(report["missing_keys"])


def model_folder(path: str | Path, setting: str = "encoder.path") -> Path:
    """The folder on this machine: as it stands, copied from a URI, or, for `org/model`, fetched from the hub.

    setting: where the path was given, for messages. Raises UserError if it cannot be had, or does not look like a transformers
    model with safetensors weights.
    """
    folder = local_folder(str(path))
    if not folder.is_dir() and HUB_NAME.fullmatch(str(path)):
        folder = fetched(str(path), setting)
    if not folder.is_dir():
        raise UserError(
            f"{setting} {path} is not a folder; give a transformers model directory, its URI, or a hub name"
        )
    backbone = backbone_folder(folder)
    lacking = [] if (backbone / "config.json").is_file() else ["config.json"]
    if not any((backbone / name).is_file() for name in WEIGHTS):
        lacking.append(WEIGHTS[0])
    if lacking:
        raise UserError(f"{setting} {path} lacks {' and '.join(lacking)}; weights are read from safetensors only")
    return folder


def backbone_folder(folder: Path) -> Path:
    """Where the transformers model itself is: a sub-folder if there are adapters beside it."""
    return folder / BACKBONE if (folder / BACKBONE).is_dir() else folder


def fetched(name: str, setting: str) -> Path:
    """The hub's model in this machine's cache, as it is now, or at the revision that stands after an @."""
    from huggingface_hub import snapshot_download

    model, _, revision = name.partition("@")
    try:
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=list(HUB_FILES)))
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{setting} {name} is not a folder here, and the hub does not give it: {reason}") from error


def content_hash(path: str | Path) -> str:
    """Hash of what decides the vectors: configuration, weights, tokenizer and pooling."""
    folder, digest = model_folder(path), hashlib.sha256()
    named = [folder / name for name in (*NAMED, f"{BACKBONE}/config.json", SETTINGS)]
    patterns = ("*.safetensors", f"{BACKBONE}/*.safetensors", "*.model", "*.py")
    found = [file for pattern in patterns for file in sorted(folder.glob(pattern))]
    for file in [*named, *found]:
        if file.is_file():
            with file.open("rb") as stream:
                digest.update(str(file.relative_to(folder)).encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
