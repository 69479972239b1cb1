"""Train the UNet on cached latents: `python -m training.train_unet`.

Epsilon prediction on SD1.x's noise levels. The loss of a noise level is |eps - eps'|^2 weighted by sigma above 1
(where eps' is nearly the input, and only errors magnified by sigma show in the picture: that is where colours are
decided) and by 5 sigma^2 where that is less than 1 (min-SNR-5, arXiv:2303.09556). Timesteps are spread evenly over
a batch. Errors of coarse averages count more, see COARSE. The text encoder is frozen; captions are drawn anew each
time a scene is used.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from sigmagraft.core.blocks import ResBlock, SpatialTransformer
from sigmagraft.samplers.betas import cumulate, make_betas
from sigmagraft.standalone.tokens import Tokenizer
from sigmagraft.standalone.unet import UNet, UNetConfig

from .arguments import trainer
from .captions import caption
from .hard import chances
from .latents import Cache, scene_at
from .loop import Loop, Plan, Workers, generators, launch
from .scenes import Scene
from .train_text import LENGTH, encode_pieces, trained_encoder

CONFIG = UNetConfig(
    model_channels=64,
    channel_mult=(1, 2, 2),
    num_res_blocks=(1, 1, 1),
    transformer_depth=(0, 1, 0),
    transformer_depth_middle=1,
    context_dim=64,
)
# Sides and weights of the squares over which the error is averaged before it is squared. The minimum is the same for
# any weights; but the colour of a background is the mean over all 256 latent pixels, 1/256 of a plain squared
# error, and group norms hide it from the network: without the last of these, words did not change it for long.
COARSE = ((1, 1.0), (4, 2.0), (16, 8.0))
UNCONDITIONAL = 0.1  # share of captions left empty, for classifier-free guidance
AVERAGE = 0.999


def new_unet(config: UNetConfig = CONFIG, seed: int = 0) -> UNet:
    """A UNet whose residuals, and whose output, start at zero."""
    torch.manual_seed(seed)
    unet = UNet(config)
    zeroed = [unet.out[2]]
    for module in unet.modules():
        if isinstance(module, ResBlock):
            zeroed.append(module.out_layers[3])
        elif isinstance(module, SpatialTransformer):
            zeroed.append(module.proj_out)
    with torch.no_grad():
        for layer in zeroed:
            layer.weight.zero_()  # type: ignore[union-attr, operator]
            layer.bias.zero_()  # type: ignore[union-attr, operator]
    return unet


class Words:
    """Captions -> frozen hidden states [b, 77, 64]."""

    def __init__(self, runs: Path) -> None:
        self.encoder = trained_encoder(runs)
        self.tokenizer = Tokenizer.clip()
        self.empty = [self.tokenizer.start] + [self.tokenizer.end] * (LENGTH - 1)

    def tokens(self, scene: Scene, rng: np.random.Generator) -> list[int]:
        """A caption's tokens, or now and then those of the empty prompt."""
        if rng.random() < UNCONDITIONAL:
            return self.empty
        return encode_pieces(self.tokenizer, caption(scene, rng))[0]

    @torch.no_grad()
    def states(self, tokens: list[list[int]]) -> Tensor:
        """Hidden states of framed, padded tokens."""
        embeds = self.encoder.embed(torch.tensor(tokens))
        return self.encoder(embeds, torch.zeros(len(tokens), dtype=torch.int64))[0]


@dataclass(frozen=True)
class Examples:
    """Of one step: scenes, their noisy latents at timesteps t, the noise in them, sigma [b], the random sources."""

    scenes: list[Scene]
    x: Tensor
    t: Tensor
    eps: Tensor
    sigma: Tensor
    rng: np.random.Generator
    noise: torch.Generator

    def error(self, predicted: Tensor) -> Tensor:
        """Weighted mean squared error of the predicted noise."""
        d = predicted - self.eps
        error = sum(weight * F.avg_pool2d(d, size).square().mean(dim=(1, 2, 3)) for size, weight in COARSE)
        return (error * self.sigma.clamp(min=1.0) * (5 * self.sigma**2).clamp(max=1.0)).mean()


class Task:
    """The loss of a step over the cache's latents."""

    def __init__(
        self, runs: Path, seed: int, batch: int, count: int, workers: Workers, hard: bool = False
    ) -> None:
        self.cache, self.words = Cache(runs, seed), Words(runs)
        self.hard = hard
        self.seed, self.batch, self.count, self.workers = seed, batch, count, workers
        self.cache.wait(min(count, self.available(0)))
        self.latents = self.cache.array()
        mean, std = self.cache.units()
        self.mean, self.std = mean[:, None, None], std[:, None, None]
        self.alphas = torch.tensor(cumulate(make_betas("scaled_linear", 0.00085, 0.012, 1000)))
        self.scenes: dict[int, Scene] = {}
        self.chances: NDArray[np.float64] = np.empty(0)

    def available(self, step: int) -> int:
        """Latents a step may draw from: the cache is still being filled at first, and this must not depend on speed."""
        return min(self.count, 2048 + 3 * (step // 100 * 100))

    def scene(self, index: int) -> Scene:
        if index not in self.scenes:
            self.scenes[index] = scene_at(self.seed, index)
        return self.scenes[index]

    def numbers(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Which of the first `count` scenes to show."""
        if not self.hard:
            return rng.integers(count, size=self.batch)
        if len(self.chances) != count:
            self.chances = chances(self.scene(k) for k in range(count))
        return rng.choice(count, size=self.batch, p=self.chances)

    def examples(self, step: int) -> Examples:
        """What a step is trained on."""
        rng, noise = generators(self.seed + 1, step, self.workers.rank)
        count = self.available(step)
        if step % 100 == 0:
            self.cache.wait(count)
        numbers = self.numbers(rng, count)
        scenes = [self.scene(int(i)) for i in numbers]
        x0 = (torch.from_numpy(self.latents[numbers].astype(np.float32)) - self.mean) / self.std
        share = (torch.arange(self.batch) + torch.rand(self.batch, generator=noise)) / self.batch
        t = (share * len(self.alphas)).long().clamp(max=len(self.alphas) - 1)
        eps = torch.randn(x0.shape, generator=noise)
        alpha = self.alphas[t][:, None, None, None]
        x = (alpha.sqrt() * x0 + (1 - alpha).sqrt() * eps).contiguous(memory_format=torch.channels_last)
        return Examples(scenes, x, t, eps, ((1 - alpha) / alpha).sqrt().flatten(), rng, noise)

    def loss(self, unet: UNet, step: int) -> Tensor:
        """Weighted mean squared error of the predicted noise."""
        given = self.examples(step)
        context = self.words.states([self.words.tokens(scene, given.rng) for scene in given.scenes])
        return given.error(unet(given.x, given.t, context))


def main() -> None:
    """Command line."""
    parser = trainer(
        "Train the UNet on cached latents.", steps=9000, batch=8, count=6400, rate=0.001, cool=0.65, workers=2
    )
    parser.add_argument(
        "--hard", action="store_true", help="show scenes of the kinds still drawn badly oftener"
    )
    args = parser.parse_args()
    if not launch("training.train_unet", args.workers):
        return
    workers = Workers(args.workers)
    task = Task(args.runs, args.seed, args.batch, args.count, workers, args.hard)
    unet = new_unet(seed=args.seed).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = Plan(args.steps, args.rate, warm=200, cool=args.cool, decay=0.01, save_every=1000, seed=args.seed)

    def saved(step: int, module: nn.Module) -> None:
        """Draw from the checkpoint in a process of its own, which cannot hold up or end the training."""
        subprocess.Popen(
            [sys.executable, "-m", "training.preview", "--runs", str(args.runs), "--step", str(step)]
        )

    Loop(args.runs / "unet", unet, plan, lambda step: task.loss(unet, step), AVERAGE, saved, workers).run()


if __name__ == "__main__":
    main()
