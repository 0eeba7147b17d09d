"""What the training loop needs of the processes it runs beside, by Horovod, by torch.distributed, or alone."""

import os
from typing import Any, Protocol

import torch
from torch import Tensor, nn


class Ranks(Protocol):
    """What the training loop needs of the processes it runs beside."""

    rank: int
    size: int
    local_rank: int

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        """Give all ranks rank 0's trainable parameters, and have their gradients averaged from now on."""

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], max_norm: float) -> None:
        """Clip the averaged gradients to a norm and update."""

    def sum(self, numbers: Tensor) -> Tensor:
        """Element-wise sum over the ranks."""

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all ranks, one rank's after another's, as many as each has; no gradient flows."""


class Gathered(torch.autograd.Function):
    """`Ranks.gather` that a gradient flows through: a rank's rows get the sum of what all ranks make of them.

    As the ranks' gradients are averaged afterwards, each loss must be scaled by the number of ranks, as the loop does.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.count = ranks, len(rows)
        counts = ranks.gather(torch.tensor([len(rows)], device=rows.device))
        ctx.start = int(counts[: ranks.rank].sum())
        return ranks.gather(rows)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        return ctx.ranks.sum(slopes[0])[ctx.start : ctx.start + ctx.count], None


class LocalRanks:
    """One rank: this process."""

    rank, size, local_rank = 0, 1, 0

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        return model, optimizer

    def step(self, optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter], max_norm: float) -> None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
        optimizer.step()

    def sum(self, numbers: Tensor) -> Tensor:
        return numbers

    def gather(self, rows: Tensor) -> Tensor:
        return rows


class HorovodRanks:
    """Ranks of a Horovod job: gradients are averaged while the backward pass still runs."""

    def __init__(self) -> None:
        import horovod.torch as hvd

        hvd.init()
        self.hvd: Any = hvd
        self.rank, self.size, self.local_rank = hvd.rank(), hvd.size(), hvd.local_rank()

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        learning = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.hvd.broadcast_parameters(learning, root_rank=0)
        return model, self.hvd.DistributedOptimizer(optimizer, named_parameters=learning)

    def step(self, optimizer: Any, parameters: list[nn.Parameter], max_norm: float) -> None:
        optimizer.synchronize()
        nn.utils.clip_grad_norm_(parameters, max_norm)
        with optimizer.skip_synchronize():
            optimizer.step()

    def sum(self, numbers: Tensor) -> Tensor:
        return self.hvd.allreduce(numbers, op=self.hvd.Sum)

    def gather(self, rows: Tensor) -> Tensor:
        return self.hvd.allgather(rows.detach())


class TorchRanks(LocalRanks):
    """Ranks of a torch.distributed job, their gradients averaged by DistributedDataParallel."""

    def __init__(self) -> None:
        import torch.distributed as dist

        # Gradients are on the GPU; sums and ids that ranks agree on are on the CPU, which NCCL does not speak for.
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        self.dist = dist
        self.rank, self.size, self.local_rank = dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"])

    def prepare(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[nn.Module, torch.optim.Optimizer]:
        for parameter in (p for p in model.parameters() if p.requires_grad):
            self.dist.broadcast(parameter.data, src=0)
        # All ranks loaded the same frozen weights from the same folder: sending them again would be most of the start.
        return nn.parallel.DistributedDataParallel(model, init_sync=False, broadcast_buffers=False), optimizer

    def sum(self, numbers: Tensor) -> Tensor:
        total = numbers.clone()
        self.dist.all_reduce(total)
        return total

    def gather(self, rows: Tensor) -> Tensor:
        rows = rows.detach()
        counts = [rows.new_zeros(1, dtype=torch.long) for _ in range(self.size)]
        self.dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
        longest = max(int(count) for count in counts)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        found = [torch.empty_like(padded) for _ in counts]
        self.dist.all_gather(found, padded)
        return torch.cat([part[: int(count)] for part, count in zip(found, counts, strict=True)])
