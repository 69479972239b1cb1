"""Train a control on the bundled model: `python -m training.train_control --hint canny` (arXiv:2302.05543).

The UNet is frozen. Hints are drawn with the scenes: `canny` is what the preprocessor makes of the picture, `depth` the
true order of the things. Captions are left out of half of the examples, so that the hint must be understood without.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.controlnet.preprocess.canny import edges
from sigmagraft.core.patch import Hooks, Inputs, ResidualPatch, StepInfo

from .arguments import trainer
from .control_forms import FORMS
from .draw import Truth, draw
from .loop import Loop, Plan, Workers, launch
from .preview import load_unet
from .scenes import Scene
from .train_unet import Examples
from .train_unet import Task as UNetTask

NO_WORDS = 0.5
HELD_OUT = 10**9  # steps that are never trained
LIMIT = 6_000_000  # bytes of a file


def _canny(truth: Truth) -> NDArray[np.uint8]:
    return edges(truth.image.astype(np.float32), 100.0, 200.0).astype(np.uint8) * 255


def _depth(truth: Truth) -> NDArray[np.uint8]:
    return np.rint(truth.order * 255).astype(np.uint8)


HINTS: dict[str, Callable[[Truth], NDArray[np.uint8]]] = {"canny": _canny, "depth": _depth}


class Task(UNetTask):
    """The loss of a step: the UNet's, with residuals from each scene's hint."""

    def __init__(self, runs: Path, seed: int, batch: int, count: int, workers: Workers, hint: str) -> None:
        super().__init__(runs, seed, batch, count, workers)
        self.unet = load_unet(runs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.hint = HINTS[hint]
        self.drawn: dict[Scene, NDArray[np.uint8]] = {}

    def available(self, step: int) -> int:
        """All of them: the cache is full by now."""
        return self.count

    def hints(self, scenes: list[Scene]) -> Tensor:
        """[b, 3, 128, 128] in 0..1."""
        for scene in scenes:
            if scene not in self.drawn:
                self.drawn[scene] = self.hint(draw(scene))
        stack = torch.from_numpy(np.stack([self.drawn[scene] for scene in scenes]))
        return stack[:, None].float().div(255.0).expand(-1, 3, -1, -1)

    def context(self, given: Examples) -> Tensor:
        """Captions' states, of some the empty prompt's."""
        empty = self.words.empty
        said = [
            empty if given.rng.random() < NO_WORDS else self.words.tokens(scene, given.rng)
            for scene in given.scenes
        ]
        return self.words.states(said)

    def error(self, form: nn.Module, given: Examples, context: Tensor, hint: Tensor) -> Tensor:
        """The UNet's loss under the residuals of these hints."""
        inputs = Inputs(given.x, given.t, context)
        residuals = form.residuals(inputs, hint)
        hooks = Hooks([ResidualPatch(lambda info: residuals)], StepInfo(inputs=inputs))
        return given.error(self.unet(given.x, given.t, context, None, hooks))

    def control_loss(self, form: nn.Module, step: int) -> Tensor:
        """The loss of a step."""
        given = self.examples(step)
        return self.error(form, given, self.context(given), self.hints(given.scenes))

    @torch.no_grad()
    def worth(self, form: nn.Module, rounds: int = 4) -> dict[str, float]:
        """Mean errors without words on steps never trained: under each scene's own hint, another's, and none."""
        sums = dict.fromkeys(("its hint", "another's", "no control"), 0.0)
        for k in range(rounds):
            given = self.examples(HELD_OUT + k)
            empty = self.words.states([self.words.empty] * len(given.scenes))
            hint = self.hints(given.scenes)
            sums["its hint"] += float(self.error(form, given, empty, hint))
            sums["another's"] += float(self.error(form, given, empty, hint.roll(1, 0)))
            sums["no control"] += float(given.error(self.unet(given.x, given.t, empty)))
        return {name: value / rounds for name, value in sums.items()}


def folder_of(runs: Path, hint: str, form: str) -> Path:
    """Where a run is."""
    return runs / f"{form}-{hint}"


def export(runs: Path, hint: str, form: str, out: Path) -> Path:
    """Write the file in fp16, whole or not at all. ValueError where it would be larger than LIMIT."""
    network = FORMS[form](load_unet(runs))
    state = torch.load(folder_of(runs, hint, form) / "checkpoint.pt", weights_only=True)
    network.load_state_dict(state["mean"])
    tensors = {n: v.detach().half().contiguous() for n, v in network.published().items()}
    size = sum(t.numel() * 2 for t in tensors.values())
    if size > LIMIT:
        raise ValueError(f"{size} bytes of weights; the file must stay below {LIMIT}")
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{form}_scenes_{hint}.safetensors"
    about = {"training.steps": json.dumps(state["step"]), "modelspec.license": "Apache-2.0", "hint": hint}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, about)
    partial.chmod(0o644)  # safetensors writes for the owner alone
    os.replace(partial, path)
    return path


def main() -> None:
    """Command line."""
    parser = trainer(
        "Train a control on the bundled model.",
        steps=4000,
        batch=8,
        count=6400,
        rate=0.0005,
        workers=1,
        save_every=500,
        out=None,
    )
    parser.add_argument("--hint", choices=list(HINTS), default="canny")
    parser.add_argument("--form", choices=list(FORMS), default="controlnet")
    args = parser.parse_args()
    if launch("training.train_control", args.workers):
        _train(args, Workers(args.workers))
    if args.out and not os.environ.get("RANK"):
        path = export(args.runs, args.hint, args.form, args.out)
        print(f"{path}: {path.stat().st_size} bytes")


def _train(args: argparse.Namespace, workers: Workers) -> None:
    task = Task(args.runs, args.seed, args.batch, args.count, workers, args.hint)
    torch.manual_seed(args.seed)
    form = FORMS[args.form](task.unet)
    plan = Plan(args.steps, args.rate, warm=50, cool=0.5, save_every=args.save_every, seed=args.seed)

    def told(step: int, module: nn.Module) -> None:
        worth = ", ".join(f"{name} {value:.4f}" for name, value in task.worth(form).items())
        print(f"step {step}: error with {worth}", flush=True)

    def loss(step: int) -> Tensor:
        return task.control_loss(form, step)

    Loop(folder_of(args.runs, args.hint, args.form), form, plan, loss, 0.999, told, workers).run()


if __name__ == "__main__":
    main()
