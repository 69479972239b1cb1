"""The one training loop: steps, warm-up and cool-down, average weights, checkpoints, progress.

Every step draws its data and noise from (seed, step, worker) alone, so a run that stops and resumes is bit for bit
the run that did not stop. Several workers each take a batch of their own and average their gradients.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn


@dataclass(frozen=True)
class Plan:
    """How long and how fast: learning rate `rate` after `warm` steps, falling to 0 over the last `cool` share."""

    steps: int
    rate: float
    warm: int = 100
    cool: float = 0.3
    betas: tuple[float, float] = (0.9, 0.99)
    decay: float = 0.0
    clip: float = 1.0
    save_every: int = 250
    seed: int = 0

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear up, level, linear down."""
        down = (self.steps - step) / max(1.0, self.cool * self.steps)
        return self.rate * min(1.0, (step + 1) / self.warm, down)


class Average:
    """Exponential moving average of parameters; its memory grows with the run, so early averages are good too."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.shadow = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """shadow <- d shadow + (1 - d) weights, d = min(decay, (1 + step) / (10 + step))."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = module.state_dict()
        shadow = [self.shadow[k] for k in state]
        torch._foreach_lerp_(shadow, [state[k].detach() for k in state], 1 - decay)


class Workers:
    """Processes that train together, one a core; `rank` is this one's number.

    On cores that are shared with other programs this beats threads, which wait for each other in every operation
    rather than once a step.
    """

    def __init__(self, count: int = 1) -> None:
        self.rank, self.count = worker_rank() or 0, count
        if count > 1:
            dist.init_process_group("gloo", rank=self.rank, world_size=count)

    def average(self, parameters: list[nn.Parameter]) -> None:
        """Replace every gradient by its mean over the workers."""
        if self.count == 1:
            return
        grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in parameters]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        flat /= self.count
        for p, piece in zip(parameters, flat.split([p.numel() for p in parameters]), strict=True):
            p.grad = piece.view_as(p)


def worker_rank() -> int | None:
    """This process's number among workers; None in the command that starts them."""
    rank = os.environ.get("RANK")
    return None if rank is None else int(rank)


def launch(module: str, count: int) -> bool:
    """Start `count` copies of this command as workers, one pinned to each core in turn; True in the copies.

    With one worker there is nothing to start. The first worker's end is the command's.
    """
    if count == 1 or worker_rank() is not None:
        torch.set_num_threads(1)
        return True
    cores = sorted(os.sched_getaffinity(0))
    command = [sys.executable, "-m", module, *sys.argv[1:]]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(29500 + os.getpid() % 1000)}
    running = []
    for rank in range(count):
        env = os.environ | {"RANK": str(rank), "OMP_NUM_THREADS": "1"} | meeting
        running.append(subprocess.Popen(command, env=env))
        os.sched_setaffinity(running[-1].pid, {cores[rank % len(cores)]})
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit(max(codes, key=abs))
    return False


def generators(seed: int, step: int, rank: int = 0) -> tuple[np.random.Generator, torch.Generator]:
    """The random sources of one step, for data (numpy) and noise (torch)."""
    rng = np.random.default_rng((seed, step, rank))
    return rng, torch.Generator().manual_seed(int(rng.integers(2**62)))


@dataclass
class Loop:
    """Trains `module` in `folder`, from the checkpoint there if there is one.

    `loss(step)` answers the loss of a step. `average` is the moving average's decay, None for none.
    """

    folder: Path
    module: nn.Module
    plan: Plan
    loss: Callable[[int], Tensor]
    average: float | None = None
    on_save: Callable[[int, nn.Module], None] | None = None
    workers: Workers = field(default_factory=Workers)
    step: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        trained = [p for p in self.module.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            trained, self.plan.rate, self.plan.betas, weight_decay=self.plan.decay
        )
        self.mean = Average(self.module, self.average) if self.average is not None else None
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            self.restore()

    @property
    def file(self) -> Path:
        return self.folder / "checkpoint.pt"

    def restore(self) -> None:
        """Continue from the checkpoint file."""
        state = torch.load(self.file, weights_only=True)
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.mean is not None:
            self.mean.shadow = state["mean"]
        self.step = state["step"]
        print(f"resumed {self.folder} at step {self.step}", flush=True)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
        }
        if self.mean is not None:
            state["mean"] = self.mean.shadow
        partial = self.file.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.file)
        if self.on_save:
            self.on_save(self.step, self.module)

    def run(self) -> None:
        """Train to the end of the plan."""
        progress = Progress(self.step, self.plan.steps)
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        while self.step < self.plan.steps:
            rate = self.plan.rate_at(self.step)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            loss = self.loss(self.step)
            loss.backward()
            self.workers.average(trained)
            torch.nn.utils.clip_grad_norm_(trained, self.plan.clip)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.step += 1
            if self.mean is not None:
                self.mean.update(self.module, self.step)
            if self.workers.rank:
                continue
            progress.show(self.step, float(loss.detach()), rate)
            if self.step % self.plan.save_every == 0 or self.step == self.plan.steps:
                self.save()


class Progress:
    """Prints step, mean loss since the last line, seconds a step and time left, every `every` steps."""

    def __init__(self, start: int, steps: int, every: int = 50) -> None:
        self.steps, self.every = steps, every
        self.losses: list[float] = []
        self.since, self.at = time.perf_counter(), start

    def show(self, step: int, loss: float, rate: float) -> None:
        self.losses.append(loss)
        if step % self.every and step != self.steps:
            return
        now = time.perf_counter()
        each = (now - self.since) / max(1, step - self.at)
        left = time.strftime("%H:%M:%S", time.gmtime(each * (self.steps - step)))
        mean = sum(self.losses) / len(self.losses)
        print(
            f"step {step}/{self.steps}  loss {mean:.5f}  rate {rate:.2e}  {each:.3f} s/step  left {left}",
            flush=True,
        )
        self.losses, self.since, self.at = [], now, step
        sys.stdout.flush()
