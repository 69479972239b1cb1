"""Train an IP-Adapter on the bundled model: `python -m training.train_ip_adapter` (arXiv:2308.06721, plus).

The UNet and the image encoder are frozen. A perceiver makes tokens of the encoder's hidden states, and each
cross-attention gets keys and values for them, which start as copies of those for words. The reference is the scene
itself or the same things elsewhere, so that what is learned is how things look and not only where they are; captions
are left out more often than not, so that the picture must be enough.

The first steps (`--match`) do without the UNet's gradient: the term in each cross-attention must be what a full caption
adds there to the empty one. That says much more of each picture than the error of its noise does.
"""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from sigmagraft.controlnet.ip_attention import ImageTerm, Tokens
from sigmagraft.controlnet.ip_places import Place, places
from sigmagraft.controlnet.ip_projection import Resampler
from sigmagraft.controlnet.ip_weights import Gain
from sigmagraft.core.blocks import attend
from sigmagraft.core.patch import AttentionPatch, Hooks, StepInfo
from sigmagraft.standalone.unet import UNet

from .arguments import trainer
from .captions import Manner, caption
from .draw import draw
from .loop import Loop, Plan, Workers, launch
from .preview import load_unet
from .scenes import Scene, place
from .train_image_encoder import CONFIG as VISION
from .train_image_encoder import HELD_OUT, metadata, seen, trained_image_encoder
from .train_text import encode_pieces
from .train_unet import Examples
from .train_unet import Task as UNetTask
from .words import POSITIONS

FOLDER = "ip_adapter"
NAME = "ip-adapter_scenes.safetensors"
ENCODER = "ip-adapter_scenes.encoder.safetensors"
TOKENS, WIDTH, DEPTH = 16, 64, 2
ELSEWHERE = 0.5  # share of references that show the things in other places
NO_IMAGE, NO_WORDS = 0.08, 0.7
SAID = Manner(
    size=1.0, colour=1.0, place=0.0, background=1.0, synonym=0.0
)  # by captions that pictures must match


class Adapter(nn.Module):
    """Under the names of published files."""

    def __init__(self, unet: UNet, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        config = unet.config
        width = config.context_dim
        self.image_proj = Resampler(TOKENS, VISION["hidden_size"], WIDTH, width, DEPTH, WIDTH, WIDTH * 4)
        nn.init.normal_(self.image_proj.latents, std=WIDTH**-0.5)
        self.ip_adapter = nn.ModuleDict({str(p.number): _copied(unet, p) for p in places(config)})

    def patches(self, unet: UNet, tokens: Tensor) -> list[AttentionPatch]:
        """The terms of these tokens [b, n, width] in every cross-attention."""
        return [
            AttentionPatch(p.block, p.index, "attn2", self.term(unet, p, tokens)) for p in places(unet.config)
        ]

    def term(self, unet: UNet, p: Place, tokens: Tensor) -> ImageTerm:
        """The term of one cross-attention."""
        layer, heads = self.ip_adapter[str(p.number)], unet.config.heads(p.channels)
        k, v = (layer.get_parameter(f"to_{which}_ip.weight") for which in "kv")
        both = Tokens(tokens, tokens)
        return ImageTerm(k, v, heads, both, 1.0, Gain(1.0), "V only", None, lambda info: True)


def _copied(unet: UNet, p: Place) -> nn.ModuleDict:
    """to_k_ip and to_v_ip that start as the words' to_k and to_v."""
    attention = unet.get_submodule(p.module(p.number))
    made = nn.ModuleDict()
    for which in "kv":
        source = attention.get_parameter(f"to_{which}.weight")
        made[f"to_{which}_ip"] = nn.Linear(source.shape[1], source.shape[0], bias=False)
        made[f"to_{which}_ip"].weight.data.copy_(source)
    return made


def elsewhere(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same things on the same ground, a single thing at another place; pairs keep theirs, which mean something."""
    if len(scene.things) != 1:
        return scene
    thing = scene.things[0]
    names = list(POSITIONS)
    position = names[int(rng.integers(len(names)))]
    x, y, extent = place(rng, thing.size, position)
    return replace(scene, things=(replace(thing, position=position, x=x, y=y, extent=extent),))


class Task(UNetTask):
    """The loss of a step: the UNet's, with a picture in the place of words."""

    def __init__(self, runs: Path, seed: int, batch: int, count: int, workers: Workers) -> None:
        super().__init__(runs, seed, batch, count, workers)
        self.unet = load_unet(runs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.vision = trained_image_encoder(runs)
        self.grey = self.hidden(torch.zeros(1, 3, VISION["image_size"], VISION["image_size"]))

    def available(self, step: int) -> int:
        """All of them: the cache is full by now."""
        return self.count

    @torch.no_grad()
    def hidden(self, values: Tensor) -> Tensor:
        """What the adapter reads of pictures: the hidden states of the last layer but one."""
        return self.vision(values, output_hidden_states=True).hidden_states[-2]

    def references(self, given: Examples) -> Tensor:
        """Hidden states of a picture for each scene, now and then of none."""
        shown = [elsewhere(s, given.rng) if given.rng.random() < ELSEWHERE else s for s in given.scenes]
        hidden = self.hidden(seen([draw(scene).image for scene in shown]))
        none = torch.from_numpy(given.rng.random(len(shown)) < NO_IMAGE)[:, None, None]
        return torch.where(none, self.grey, hidden)

    def context(self, given: Examples) -> Tensor:
        """Captions' states, of most the empty prompt's."""
        said = [
            self.words.empty if given.rng.random() < NO_WORDS else self.words.tokens(scene, given.rng)
            for scene in given.scenes
        ]
        return self.words.states(said)

    def match_loss(self, adapter: Adapter, step: int) -> Tensor:
        """How far the terms are from what words add to each cross-attention, as a share of it; 0 for no picture."""
        given = self.examples(step)
        hidden = self.references(given)
        shown = (hidden != self.grey).flatten(1).any(1).float()[:, None, None]
        tokens = adapter.image_proj(hidden)
        losses = []
        for at, q, added in self.added_by_words(given):
            wanted = added * shown
            term = adapter.term(self.unet, at, tokens)(q, q, q, StepInfo())
            losses.append((term - wanted).square().mean() / wanted.square().mean().clamp(min=1e-6))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def added_by_words(self, given: Examples) -> list[tuple[Place, Tensor, Tensor]]:
        """Of each cross-attention the queries, and what captions that leave nothing out but places add to their
        attention [b, n, channels] over that to the empty one.
        """
        said = [encode_pieces(self.words.tokenizer, caption(s, given.rng, SAID))[0] for s in given.scenes]
        empty = self.words.states([self.words.empty])
        found: list[tuple[Place, Tensor, Tensor]] = []

        def watched(at: Place) -> AttentionPatch:
            layer, heads = self.unet.get_submodule(at.module(at.number)), self.unet.config.heads(at.channels)

            def extra(q: Tensor, k: Tensor, v: Tensor, info: StepInfo) -> Tensor:
                none = [part(empty).expand(len(q), -1, -1) for part in (layer.to_k, layer.to_v)]  # type: ignore[operator]
                found.append((at, q, attend(q, k, v, heads) - attend(q, *none, heads)))
                return q.new_zeros(())

            return AttentionPatch(at.block, at.index, "attn2", extra)

        hooks = Hooks([watched(at) for at in places(self.unet.config)], StepInfo())
        self.unet(given.x, given.t, self.words.states(said), None, hooks)
        return found

    def error(self, adapter: Adapter, given: Examples, context: Tensor, hidden: Tensor) -> Tensor:
        """The loss of given pictures and words."""
        hooks = Hooks(adapter.patches(self.unet, adapter.image_proj(hidden)), StepInfo())
        return given.error(self.unet(given.x, given.t, context, None, hooks))

    def image_loss(self, adapter: Adapter, step: int) -> Tensor:
        """The loss of a step."""
        given = self.examples(step)
        context = self.context(given)
        return self.error(adapter, given, context, self.references(given))

    @torch.no_grad()
    def worth(self, adapter: Adapter, rounds: int = 4) -> dict[str, float]:
        """Mean errors without words on steps never trained: with each scene's own picture, another's, none, and with
        words instead.
        """
        sums = dict.fromkeys(("its picture", "another's", "none", "words"), 0.0)
        for k in range(rounds):
            given = self.examples(HELD_OUT + k)
            empty = self.words.states([self.words.empty] * len(given.scenes))
            hidden = self.hidden(seen([draw(scene).image for scene in given.scenes]))
            sums["its picture"] += float(self.error(adapter, given, empty, hidden))
            sums["another's"] += float(self.error(adapter, given, empty, hidden.roll(1, 0)))
            sums["none"] += float(given.error(self.unet(given.x, given.t, empty)))
            words = self.words.states([self.words.tokens(scene, given.rng) for scene in given.scenes])
            sums["words"] += float(given.error(self.unet(given.x, given.t, words)))
        return {name: value / rounds for name, value in sums.items()}


def published(adapter: Adapter) -> dict[str, Tensor]:
    """The tensors in fp16 as published files have them: to_k and to_v of the perceiver in one."""
    tensors = {name: value.detach() for name, value in adapter.state_dict().items()}
    for name in [n for n in tensors if n.startswith("image_proj.") and n.endswith(".to_k.weight")]:
        both = [tensors.pop(name), tensors.pop(name.replace(".to_k.", ".to_v."))]
        tensors[name.replace(".to_k.", ".to_kv.")] = torch.cat(both)
    return {name: value.half().contiguous() for name, value in tensors.items()}


def export(runs: Path, folder: Path) -> list[Path]:
    """Write the adapter and its image encoder, each whole or not at all."""
    adapter = Adapter(load_unet(runs))
    state = torch.load(runs / FOLDER / "checkpoint.pt", weights_only=True)
    adapter.load_state_dict(state["mean"])
    encoder = {n: v.half().contiguous() for n, v in trained_image_encoder(runs).state_dict().items()}
    about = {"image_encoder": ENCODER, "training.steps": json.dumps(state["step"])}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, tensors, said in ((NAME, published(adapter), about), (ENCODER, encoder, metadata())):
        partial = folder / f"{name}.partial"
        save_file(tensors, partial, {"modelspec.license": "Apache-2.0", **said})
        partial.chmod(0o644)  # safetensors writes for the owner alone
        os.replace(partial, folder / name)
        written.append(folder / name)
    return written


def main() -> None:
    """Command line."""
    parser = trainer(
        "Train an IP-Adapter on the bundled model.",
        steps=4000,
        batch=8,
        count=6400,
        rate=0.001,
        workers=1,
        save_every=500,
        out=None,
    )
    parser.add_argument("--match", type=int, default=1000, help="first steps that match what words add")
    args = parser.parse_args()
    if launch("training.train_ip_adapter", args.workers):
        _train(args, Workers(args.workers))
    if args.out and not os.environ.get("RANK"):
        for path in export(args.runs, args.out):
            print(f"{path}: {path.stat().st_size} bytes")


def _train(args: argparse.Namespace, workers: Workers) -> None:
    task = Task(args.runs, args.seed, args.batch, args.count, workers)
    adapter = Adapter(task.unet, args.seed)
    plan = Plan(args.steps, args.rate, warm=50, cool=0.5, save_every=args.save_every, seed=args.seed)

    def told(step: int, module: nn.Module) -> None:
        worth = ", ".join(f"{name} {value:.4f}" for name, value in task.worth(adapter).items())
        print(f"step {step}: error with {worth}", flush=True)

    def loss(step: int) -> Tensor:
        return (task.match_loss if step < args.match else task.image_loss)(adapter, step)

    Loop(args.runs / FOLDER, adapter, plan, loss, 0.999, told, workers).run()


if __name__ == "__main__":
    main()
