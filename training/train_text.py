"""Teach the text encoder which word belongs to which object: `python -m training.train_text`.

No picture is needed. Linear heads (thrown away afterwards) must read, from the hidden state of an object's noun,
that object's attributes, and from the end-of-text and padding states (to which causal attention has shown the
whole caption) everything the caption says of both objects and the background. Attributes a caption leaves out
have a class of their own. Cross-attention is linear in these states, so what heads can read the UNet can too.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sigmagraft.standalone.text import TextConfig, TextEncoder
from sigmagraft.standalone.tokens import Tokenizer

from .arguments import trainer
from .captions import BACKGROUND, Piece, caption
from .loop import Loop, Plan, generators
from .scenes import Mix, Scene, random_scene
from .words import COLOURS, POSITIONS, RELATIONS, SHAPES, SIZES, STRIPES

CONFIG = TextConfig(width=64, layers=4, heads=1, intermediate=256)
LENGTH = 77
SHORT = 40  # the longest caption has 28 tokens; three steps of four look no further than this
THING = {"colour": list(COLOURS), "shape": list(SHAPES), "size": list(SIZES), "position": list(POSITIONS)}
GROUND = {"colour": list(COLOURS), "second": list(COLOURS), "stripes": list(STRIPES)}
# What a noun's own state must tell (its place often comes later in the caption).
NOUN = ("colour", "shape", "size")
SLOTS = [("first", f) for f in THING] + [("second", f) for f in THING] + [("ground", f) for f in GROUND]
SPELLINGS = {"center": "centre"}


def class_of(values: list[str], value: str | None) -> int:
    """0 for what is not said or not there, else 1 + its index."""
    return 0 if value is None else 1 + values.index(value)


def slots(scene: Scene) -> list[int]:
    """Thing indices in reading order: the left, upper or front one first."""
    if len(scene.things) == 1:
        return [0]
    direction = RELATIONS[str(scene.relation)]
    subject_first = direction is None or sum(direction) < 0
    return [scene.subject, 1 - scene.subject] if subject_first else [1 - scene.subject, scene.subject]


def whole_targets(scene: Scene, pieces: list[Piece]) -> list[int]:
    """The class of every slot, for states that have seen the whole caption."""
    said = {(p.about, field) for p in pieces for field in p.said}
    related = any("relation" in p.said for p in pieces)
    things = slots(scene)
    targets = []
    for k in range(2):
        for field, values in THING.items():
            known = k < len(things) and ((things[k], field) in said or (field == "position" and related))
            targets.append(class_of(values, getattr(scene.things[things[k]], field) if known else None))
    return targets + ground_targets(scene, [field for about, field in said if about == BACKGROUND])


def ground_targets(scene: Scene, said: Collection[str]) -> list[int]:
    """The classes of what is said of the background."""
    return [class_of(v, getattr(scene.background, f) if f in said else None) for f, v in GROUND.items()]


def encode_pieces(tokenizer: Tokenizer, pieces: list[Piece]) -> tuple[list[int], list[int]]:
    """Token ids framed and padded to LENGTH, and the index of each piece's last token."""
    ids, last = [tokenizer.start], []
    for found in tokenizer.encode_all([p.text for p in pieces]):
        ids += found
        last.append(len(ids) - 1)
    return ids + [tokenizer.end] * (LENGTH - len(ids)), last


class Lessons(nn.Module):
    """The encoder with the heads that examine it."""

    def __init__(self, config: TextConfig = CONFIG) -> None:
        super().__init__()
        self.encoder = TextEncoder(config)
        sizes = [len({**THING, **GROUND}[field]) + 1 for _, field in SLOTS]
        self.whole = nn.ModuleList(nn.Linear(config.width, n) for n in sizes)
        self.noun = nn.ModuleList(nn.Linear(config.width, len(THING[f]) + 1) for f in NOUN)
        self.ground = nn.ModuleList(nn.Linear(config.width, len(GROUND[f]) + 1) for f in GROUND)

    def losses(self, states: Tensor, whole: tuple, noun: tuple, ground: tuple) -> tuple[Tensor, Tensor]:
        """Mean cross-entropy over all heads, and the share of right answers of the heads on the whole caption."""
        loss, right = torch.zeros(()), []
        for heads, (rows, columns, targets) in (
            (self.whole, whole),
            (self.noun, noun),
            (self.ground, ground),
        ):
            chosen = states[rows, columns]
            for k, head in enumerate(heads):
                logits = head(chosen)
                loss = loss + F.cross_entropy(logits, targets[:, k]) / len(heads)
                if heads is self.whole:
                    right.append((logits.argmax(1) == targets[:, k]).float().mean())
        return loss, torch.stack(right).mean()


def new_lessons(seed: int) -> Lessons:
    """Initialised small, so that words never trained add next to nothing."""
    torch.manual_seed(seed)
    lessons = Lessons()
    embeddings = lessons.encoder.text_model.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=0.05)
    nn.init.normal_(embeddings.position_embedding.weight, std=0.02)
    return lessons


def trained_encoder(runs: Path) -> TextEncoder:
    """The frozen encoder of a run; another spelling of a trained word gets that word's embedding."""
    lessons = Lessons()
    lessons.load_state_dict(torch.load(runs / "text" / "checkpoint.pt", weights_only=True)["module"])
    rows, tokenizer = lessons.encoder.text_model.embeddings.token_embedding.weight, Tokenizer.clip()
    with torch.no_grad():
        for spelling, trained in SPELLINGS.items():
            rows[tokenizer.encode(spelling)] = rows[tokenizer.encode(trained)]
    return lessons.encoder.eval().requires_grad_(False)


def batch_at(tokenizer: Tokenizer, seed: int, step: int, batch: int) -> tuple[Tensor, tuple, tuple, tuple]:
    """Tokens [b, n] and, for each kind of head, rows, columns and targets."""
    rng, _ = generators(seed, step)
    length = LENGTH if step % 4 == 3 else SHORT
    tokens, whole, noun, ground = [], [], [], []
    for row in range(batch):
        scene = random_scene(rng, Mix(pairs=0.6, striped=0.2))
        pieces = caption(scene, rng)
        ids, last = encode_pieces(tokenizer, pieces)
        tokens.append(ids[:length])
        end = last[-1] + 1
        targets = whole_targets(scene, pieces)
        whole += [(row, column, targets) for column in (end, *rng.integers(end, length, 3).tolist())]
        for piece, column in zip(pieces, last, strict=True):
            if "shape" in piece.said:
                thing = scene.things[piece.about]
                known = [class_of(THING[f], getattr(thing, f) if f in piece.said else None) for f in NOUN]
                noun.append((row, column, known))
            elif piece.about == BACKGROUND:
                ground.append((row, column, ground_targets(scene, piece.said)))

    def stacked(found: list) -> tuple[Tensor, Tensor, Tensor]:
        rows, columns, targets = zip(*found, strict=True)
        return torch.tensor(rows), torch.tensor(columns), torch.tensor(targets)

    return torch.tensor(tokens), stacked(whole), stacked(noun), stacked(ground)


def give_mean(lessons: Lessons) -> None:
    """Shift the hidden states to a clear mean, which the heads' layer does not leave them by itself.

    A1111's emphasis scales a weighted prompt back to the mean it had: with a mean of almost nothing that factor is
    mere chance (0.78 to 1.21 over 200 weighted captions; with this shift 0.98 to 1.02).
    """
    with torch.no_grad():
        lessons.encoder.text_model.final_layer_norm.bias += 0.25


def main() -> None:
    """Command line."""
    parser = trainer("Train the text encoder on captions alone.", steps=2500, batch=32, rate=0.002)
    args = parser.parse_args()
    torch.set_num_threads(1)
    lessons, tokenizer = new_lessons(args.seed), Tokenizer.clip()
    eos = torch.zeros(args.batch, dtype=torch.int64)  # the pooled state is not used
    shares: list[float] = []

    def loss(step: int) -> Tensor:
        tokens, *found = batch_at(tokenizer, args.seed, step, args.batch)
        states, _ = lessons.encoder(lessons.encoder.embed(tokens), eos)
        value, right = lessons.losses(states, *found)
        shares.append(float(right))
        if step % 50 == 49:
            print(f"whole caption understood: {np.mean(shares[-50:]):.4f} of attributes", flush=True)
        return value

    plan = Plan(args.steps, args.rate, warm=100, seed=args.seed)
    loop = Loop(args.runs / "text", lessons, plan, loss)
    unfinished = loop.step < args.steps
    loop.run()
    if unfinished:
        give_mean(lessons)
        loop.save()


if __name__ == "__main__":
    main()
