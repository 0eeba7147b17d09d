"""The peers of benchmarks/train.py: `train_peers.py plain | trainer FOLDER`; requests and what is told of them are those of train_sides.py."""

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from serve import Keep, Work, serve
from train_sides import BATCH, RANKS, ROOT, about_of, job_of, keep

if TYPE_CHECKING:
    import numpy as np

    from recspark.training.learner import TrainingJob

HISTORY_TOKENS = 128
PLAIN_STEPS = {"whole": 20, "first": 20, "quick": 2}
CHECKED = 8  # items of several users whose loss is differentiated by either way


def plain(folder: Path) -> tuple[Work, Keep | None]:
    """The text of every example encoded; see benchmarks/train.py."""
    import numpy as np
    import torch

    from recspark.models.encoder import pad
    from recspark.models.objectives import losses_at
    from recspark.training.item_lesson import targets_of
    from recspark.training.launcher import LocalRanks
    from recspark.training.learner import make_learner
    from recspark.training.reader import Shard

    torch.set_num_threads(RANKS)
    with job_of(folder, 1) as job:
        learner = make_learner(job, LocalRanks())
        shard = Shard(f"{job.examples}/shard=0", "arrow", job.lesson.columns)
        gradients = partial(gradients_apart, job, learner, shard)
    gram = torch.from_numpy(factors_of(job).user_gram).float()
    tokens: list[np.ndarray] = []
    forms: list[torch.Tensor] = []
    users: list[np.ndarray] = []
    for step in shard.in_order("train", np.arange(shard.steps("train"))):
        tokens += step.arrays["tokens"]
        forms.append(job.settings.objective.forms(targets_of(step, len(gram), learner.device), gram))
        users.append(step.numbers["positives"])
    forms_NJJ, users_N = torch.cat(forms), np.round(np.concatenate(users)).astype(np.int64)
    forms.clear()
    rng, steps = np.random.default_rng(job.seed), PLAIN_STEPS[about_of(folder)["size"]]

    def losses(chosen: np.ndarray) -> torch.Tensor:
        """Of pairs of these items: each one's share of its item's."""
        vectors = learner.model(*pad([tokens[item] for item in chosen]))
        return losses_at(vectors, forms_NJJ[chosen]) / torch.from_numpy(users_N[chosen])

    def work(told: str) -> dict[str, Any] | None:
        if not told:
            return None
        batches = rng.choice(len(users_N), (steps, job.settings.batch_size), p=users_N / users_N.sum())
        began = time.perf_counter()
        for batch in batches:
            learner.optimizer.zero_grad()
            losses(batch).mean().backward()
            torch.nn.utils.clip_grad_norm_(list(learner.parameters.values()), job.settings.max_gradient_norm)
            learner.optimizer.step()
        seconds = time.perf_counter() - began
        return {"seconds": seconds, "examples": batches.size, "gradients_apart": gradients(losses, users_N)}

    return work, keep


def gradients_apart(
    job: "TrainingJob", learner: Any, shard: Any, losses: Callable[["np.ndarray"], Any], users_N: "np.ndarray"
) -> float:
    """How far the gradient of the least popular items of the first step that several users have is from ours, beside its length: all their pairs, one by one."""
    import numpy as np
    import torch

    from recspark.training.launcher import LocalRanks

    step = shard.step("train", 0)
    by_users = np.argsort(users_N[: len(step)], kind="stable")
    least = by_users[users_N[by_users] > 1][:CHECKED]
    ours = job.lesson.losses(learner.model, shard, learner.device, LocalRanks())(learner.model, step, 0)[
        torch.from_numpy(least)
    ]
    by_way = []
    for total in (ours.sum(), losses(np.repeat(least, users_N[least])).sum()):
        learner.optimizer.zero_grad()
        total.backward()
        by_way.append(torch.cat([p.grad.flatten() for p in learner.parameters.values()]))
    mine, theirs = by_way
    return float((mine - theirs).norm() / mine.norm())


def factors_of(job: "TrainingJob") -> Any:
    from recspark.lake import local_folder
    from recspark.models.retriever import Factors

    return Factors.load(local_folder(job.lesson.factors))


def trainer(folder: Path) -> tuple[Work, Keep | None]:
    """sentence-transformers' own, with LoRA where ours has it, on pairs of texts."""
    import pandas as pd
    import torch
    from datasets import Dataset
    from peft import LoraConfig, TaskType
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    from recspark.models.adaptation import Lora
    from recspark.models.adaptation.lora import ATTENTION
    from recspark.training.learner import set_dropout

    torch.set_num_threads(RANKS)
    model = SentenceTransformer(str(ROOT / ".data" / "minilm"), device="cpu")
    model.max_seq_length, ours = HISTORY_TOKENS, Lora()
    model.add_adapter(
        LoraConfig(
            task_type=TaskType.FEATURE_EXTRACTION,
            r=ours.rank,
            lora_alpha=ours.alpha,
            lora_dropout=0.0,
            target_modules=list(ATTENTION["bert"]),
        )
    )
    set_dropout(model, 0.0)  # as ours
    pairs = pd.read_parquet(folder / "pairs.parquet")
    asked = len(pairs)

    def work(told: str) -> dict[str, Any] | None:
        if not told:
            return None
        with TemporaryDirectory(dir=folder) as kept:
            wanted = SentenceTransformerTrainingArguments(
                kept,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=ours.learning_rate,
                save_strategy="no",
                report_to="none",
                use_cpu=True,
                disable_tqdm=True,
                dataloader_pin_memory=False,
            )
            running = SentenceTransformerTrainer(
                model, wanted, train_dataset=Dataset.from_pandas(pairs), loss=MultipleNegativesRankingLoss(model)
            )
            found = running.train()
        learned = found.global_step * BATCH
        return {"seconds": found.metrics["train_runtime"], "examples": min(learned, asked), "asked": asked}

    return work, keep


if __name__ == "__main__":
    serve(partial({"plain": plain, "trainer": trainer}[sys.argv[1]], Path(sys.argv[2])))
