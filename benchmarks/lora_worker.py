"""One peer of benchmarks.lora measured, in a process of its own."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from .lora_peers import PEERS, Peer
from .lora_setup import Setup
from .pipeline_worker import peak_kib


class Clock:
    """Seconds that things take on a device, and the memory held at most since it was made.

    On a busy machine the seconds are those of the processor, not the wall's.
    """

    def __init__(self, setup: Setup) -> None:
        self.cuda = setup.device != "cpu"
        self.now = time.process_time if setup.busy else time.perf_counter
        self.before = self._held()

    def time(self, work: Callable[[], Any]) -> float:
        self._wait()
        began = self.now()
        work()
        self._wait()
        return self.now() - began

    def memory(self) -> float:
        """MiB."""
        return (self._held() - self.before) / 2**20

    def _held(self) -> float:
        return torch.cuda.max_memory_allocated() if self.cuda else peak_kib() * 1024

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


@torch.inference_mode()
def figures(peer: Peer) -> dict[str, Any]:
    """Everything measured of one peer, and the mean size of its answers."""
    answers: list[float] = []
    times = peer.setup.times

    def step() -> float:
        answers.append(float(peer.step().float().abs().mean()))
        return min(clock.time(peer.step) for _ in range(times))

    def again(fuse: Callable[[], None]) -> dict[str, float]:
        taken = [(clock.time(peer.unfuse), clock.time(fuse)) for _ in range(times)]
        return dict(zip(("unfuse", "fuse again"), map(min, zip(*taken, strict=True)), strict=True))

    clock = Clock(peer.setup)
    before = peer.weights()
    found = {"step plain": step()}
    clock = Clock(peer.setup)
    found["load"] = clock.time(peer.load_all)
    found["step apart"] = step()
    found["fuse"] = clock.time(peer.fuse)
    found["step fused"] = step()
    found |= again(peer.fuse)
    found["fuse checked"] = again(peer.fuse_checked)["fuse again"]
    peer.unfuse()
    found["not undone"] = float(sum(before[name] != crc for name, crc in peer.weights().items()))
    peer.fuse()
    other = str(peer.setup.count)
    peer.load(other)  # PEFT takes out what is merged when it loads, which is not the first swap's gain
    peer.swap([other])
    swaps = [peer.chosen, [other]][:times]
    found["swap"] = min(clock.time(partial(peer.swap, names)) for names in swaps)
    peer.merge_for_prompt([other])
    found["next prompt"] = min(clock.time(partial(peer.merge_for_prompt, names)) for names in swaps)
    answers.append(float(peer.step().float().abs().mean()))
    return found | {"memory, MiB": clock.memory(), "answers": answers}


if __name__ == "__main__":
    print(json.dumps(figures(PEERS[sys.argv[1]](Setup(**json.loads(sys.argv[2]))))))
