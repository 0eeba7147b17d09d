"""Metadata of the package. Exact versions that were tried together stand in requirements.lock; here are ranges."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def version() -> str:
    """`__version__` of the package, read without importing it."""
    source = (ROOT / "recspark/__init__.py").read_text(encoding="utf-8")
    (found,) = re.findall(r'^__version__ = "(.+)"$', source, flags=re.MULTILINE)
    return found


setup(
    name="recspark",
    version=version(),
    description="A nightly batch recommender on Spark with a language model fine-tuned on its own interactions",
    license="Apache-2.0",
    license_files=["LICENSE", "NOTICE"],
    python_requires=">=3.11",
    packages=find_packages(include=["recspark", "recspark.*"]),
    package_data={"recspark": ["**/*.jinja", "**/*.properties"]},
    install_requires=[
        "pyspark>=4.0,<5",
        "pyarrow>=11",
        "numpy>=1.26",
        "pandas>=2.0",
        "scipy>=1.11",
        "scikit-learn>=1.3",  # TF-IDF
        "torch>=2.4",
        "transformers>=5",
        "peft>=0.18",
        "safetensors>=0.4",
        "pydantic>=2",
        "typer>=0.12",
        "rich>=13",
        "tqdm>=4.60",
        "pyyaml>=6",
        "jinja2>=3.1",
        "matplotlib>=3.8",
        "tensorboard>=2.15",
    ],
    extras_require={
        # Training on several machines. Horovod compiles; tools/build_horovod.py knows how.
        "horovod": ["horovod>=0.28.1", "cffi"],
        # Petastorm 0.12 reads with pyarrow 14 at most, which needs numpy 1.
        "petastorm": ["petastorm>=0.12.1,<0.13", "pyarrow>=11,<15", "numpy>=1.26,<2"],
        "search": ["bm25s>=0.2"],  # search.bm25_weight
        "tune": ["optuna>=4"],
    },
    entry_points={"console_scripts": ["recspark = recspark.cli:main"]},
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Programming Language :: Python :: 3.11",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
