"""Train the small CLIP image encoder that the IP-Adapter reads: `python -m training.train_image_encoder`.

Two things are asked of it. Its embedding must say which of a batch's captions is the picture's (arXiv:2103.00020,
against the frozen text encoder's end state), and from its hidden states, the last but one as an IP-Adapter reads
them, linear heads must tell what each patch shows: the colour, and the shape of the thing it belongs to.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sigmagraft.controlnet.ip_image import pixels
from sigmagraft.standalone.tokens import Tokenizer

from .arguments import trainer
from .captions import caption
from .draw import Truth, draw
from .latents import MIX
from .loop import Loop, Plan, generators
from .scenes import Scene, random_scene
from .train_text import LENGTH, encode_pieces, trained_encoder
from .words import COLOURS, SHAPES

SIDE, PATCH = 64, 8
GRID = SIDE // PATCH
CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "projection_dim": 64,
    "hidden_act": "gelu",
}
FOLDER = "image_encoder"
HELD_OUT = 10**9  # steps whose scenes no training sees
_COLOURS, _SHAPES = list(COLOURS), list(SHAPES)


def new_encoder(seed: int = 0) -> CLIPVisionModelWithProjection:
    """An untrained encoder; every projection starts at a variance that keeps activations at 1."""
    torch.manual_seed(seed)
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**CONFIG))
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5 * 0.7)
    return encoder


def seen(images: list[np.ndarray]) -> Tensor:
    """Drawn pictures as the encoder takes them."""
    return pixels([Image.fromarray(image) for image in images], SIDE)


def patch_truth(scene: Scene, truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """Of each patch [grid * grid]: the colour most of it has, and 0 or 1 + the shape of the thing most of it shows."""
    side = truth.order.shape[0] // GRID
    covers = truth.masks.reshape(-1, GRID, side, GRID, side).mean((2, 4)).reshape(len(truth.masks), -1)
    thing = np.where(covers.max(0) > 0.5, covers.argmax(0), -1)
    shapes = np.array([0] + [1 + _SHAPES.index(t.shape) for t in scene.things])[thing + 1]
    palette = np.array([COLOURS[name] for name in _COLOURS], np.float32)
    some = truth.image.reshape(GRID, side, GRID, side, 3)[:, 2::4, :, 2::4].astype(
        np.float32
    )  # enough to vote
    distances = ((some[..., None, :] - palette) ** 2).sum(-1).argmin(-1)
    votes = np.eye(len(_COLOURS))[distances].sum((1, 3)).argmax(-1).ravel()
    return votes, shapes


class Lessons(nn.Module):
    """The encoder and what is thrown away afterwards: the heads, and a projection of the text's state."""

    def __init__(self, seed: int = 0, text_width: int = 64) -> None:
        super().__init__()
        self.encoder = new_encoder(seed)
        width = CONFIG["hidden_size"]
        self.colour = nn.Linear(width, len(_COLOURS))
        self.shape = nn.Linear(width, len(_SHAPES) + 1)
        self.text = nn.Linear(text_width, CONFIG["projection_dim"], bias=False)
        self.sharpness = nn.Parameter(torch.tensor(2.0))

    def forward(self, values: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Similarity of pictures and captions [b, b], colours and shapes of patches [b, grid * grid, classes]."""
        out = self.encoder(values, output_hidden_states=True)
        patches = out.hidden_states[-2][:, 1:]
        image, words = F.normalize(out.image_embeds, dim=-1), F.normalize(self.text(text), dim=-1)
        likeness = image @ words.T * self.sharpness.exp()
        return likeness, self.colour(patches), self.shape(patches)


class Task:
    """The loss of a step on scenes drawn for it."""

    def __init__(self, runs: Path, seed: int, batch: int) -> None:
        self.seed, self.batch = seed, batch
        self.words, self.tokenizer = trained_encoder(runs), Tokenizer.clip()

    def examples(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pictures, the captions' end states, colours and shapes of the patches."""
        rng, _ = generators(self.seed + 11, step)
        scenes = [random_scene(rng, MIX) for _ in range(self.batch)]
        truths = [draw(scene) for scene in scenes]
        labels = [patch_truth(scene, truth) for scene, truth in zip(scenes, truths, strict=True)]
        text = self.states([encode_pieces(self.tokenizer, caption(scene, rng))[0] for scene in scenes])
        colours, shapes = (torch.from_numpy(np.stack(column)) for column in zip(*labels, strict=True))
        return seen([truth.image for truth in truths]), text, colours, shapes

    @torch.no_grad()
    def states(self, tokens: list[list[int]]) -> Tensor:
        """The last state of each padded caption, which has seen all of it."""
        embeds = self.words.embed(torch.tensor(tokens))
        return self.words(embeds, torch.zeros(len(tokens), dtype=torch.int64))[0][:, LENGTH - 1]

    def loss(self, lessons: Lessons, step: int) -> Tensor:
        """Cross-entropies of captions and pictures both ways, and of the patches."""
        values, text, colours, shapes = self.examples(step)
        likeness, colour, shape = lessons(values, text)
        own = torch.arange(len(likeness))
        pairs = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        return (
            0.5 * pairs
            + F.cross_entropy(colour.flatten(0, 1), colours.flatten())
            + F.cross_entropy(shape.flatten(0, 1), shapes.flatten(), weight=_RARE)
        )

    @torch.no_grad()
    def shares(self, lessons: Lessons, step: int) -> dict[str, float]:
        """Of a batch: patches of the right colour, of things the right shape, captions found among the batch's."""
        values, text, colours, shapes = self.examples(step)
        likeness, colour, shape = lessons(values, text)
        things = shapes > 0
        return {
            "colour": float((colour.argmax(-1) == colours).float().mean()),
            "shape": float((shape.argmax(-1) == shapes)[things].float().mean()),
            "caption": float((likeness.argmax(-1) == torch.arange(len(likeness))).float().mean()),
        }


_RARE = torch.tensor([0.3] + [1.0] * len(_SHAPES))  # most patches show no thing


def trained_image_encoder(runs: Path) -> CLIPVisionModelWithProjection:
    """The frozen encoder of a run, its weights' average."""
    lessons = Lessons()
    lessons.load_state_dict(torch.load(runs / FOLDER / "checkpoint.pt", weights_only=True)["mean"])
    return lessons.encoder.eval().requires_grad_(False)


def metadata() -> dict[str, str]:
    """What a single file must say of the encoder, since shapes do not."""
    return {"clip_vision": json.dumps({k: CONFIG[k] for k in ("num_attention_heads", "hidden_act")})}


def main() -> None:
    """Command line."""
    parser = trainer("Train the image encoder of the IP-Adapter.", steps=4000, batch=32, rate=0.001)
    args = parser.parse_args()
    torch.set_num_threads(1)
    task, lessons = Task(args.runs, args.seed, args.batch), Lessons(args.seed)
    plan = Plan(args.steps, args.rate, warm=100, decay=0.01, seed=args.seed)

    def told(step: int, module: nn.Module) -> None:
        shares = task.shares(lessons, HELD_OUT + step)
        print(
            f"step {step}: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items()), flush=True
        )

    Loop(args.runs / FOLDER, lessons, plan, lambda step: task.loss(lessons, step), 0.999, told).run()


if __name__ == "__main__":
    main()
