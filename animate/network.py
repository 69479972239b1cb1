"""A motion module file's network: attention over frames for the blocks of a UNet (AnimateDiff, arXiv:2307.04725)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from ..core.errors import FileError
from ..core.patch import Block
from ..core.temporal import HEADS, MotionModule
from ..core.unet_config import UNetConfig

MIDDLE = "mid_block.motion_modules.0"


@dataclass(frozen=True)
class ModuleSizes:
    """One module: channels, the most frames at once, attentions in a transformer block, transformer blocks."""

    width: int
    length: int
    attentions: int = 2
    blocks: int = 1


@dataclass(frozen=True)
class MotionConfig:
    """Path of each module (`down_blocks.0.motion_modules.1`) -> its sizes.

    `stored`: the file holds the table of positions; where it does not, it is computed.
    """

    modules: Mapping[str, ModuleSizes]
    heads: int = HEADS
    stored: bool = True

    @property
    def length(self) -> int:
        """The most frames at once."""
        return min(sizes.length for sizes in self.modules.values())

    @property
    def middle(self) -> bool:
        """Whether there is a module in the middle block."""
        return MIDDLE in self.modules

    @property
    def widths(self) -> list[int]:
        """Channels of each level, the finest first."""
        levels = {path.split(".")[1]: sizes.width for path, sizes in self._side("down")}
        return list(levels.values())

    @property
    def version(self) -> str:
        """AnimateDiff's name of the kind: v1, v2, v3, sdxl; or what AnimateLCM has, more positions than any."""
        if len(self.widths) == 3 and not self.middle:
            return "sdxl"
        if self.middle:
            return "v2"
        return "v1" if self.length <= 24 else "v3" if self.length <= 32 else "lcm"

    def _side(self, side: str) -> Iterator[tuple[str, ModuleSizes]]:
        return ((path, sizes) for path, sizes in self.modules.items() if path.startswith(side))


class _Level(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleDict()


class Motion(nn.Module):
    """All modules of a file, under diffusers' paths."""

    def __init__(self, config: MotionConfig) -> None:
        super().__init__()
        self.config = config
        self.down_blocks, self.up_blocks = nn.ModuleDict(), nn.ModuleDict()
        for path, sizes in config.modules.items():
            level, _, number = path.rpartition(".motion_modules.")
            self._level(level).motion_modules[number] = MotionModule(
                sizes.width, sizes.length, sizes.attentions, sizes.blocks, config.heads, config.stored
            )

    def _level(self, path: str) -> _Level:
        side, _, number = path.partition(".")
        if not number:
            self.add_module(side, level := _Level())
            return level
        levels = getattr(self, side)
        if number not in levels:
            levels[number] = _Level()
        return levels[number]

    def modules_by_path(self) -> dict[str, MotionModule]:
        """`down_blocks.0.motion_modules.1` -> the module there."""
        return {path: self.get_submodule(path) for path in self.config.modules}  # type: ignore[misc]


def places(unet: UNetConfig) -> dict[str, tuple[Block, int]]:
    """Path of each module that a UNet has room for -> the block it stands inside, and the channels there."""
    levels = list(zip(unet.widths, unet.num_res_blocks, strict=True))
    found: dict[str, tuple[Block, int]] = {MIDDLE: (("middle", 0), unet.widths[-1])}
    first = 1
    for i, (width, blocks) in enumerate(levels):
        found |= {f"down_blocks.{i}.motion_modules.{j}": (("input", first + j), width) for j in range(blocks)}
        first += blocks + 1
    first = 0
    for i, (width, blocks) in enumerate(levels[::-1]):
        found |= {
            f"up_blocks.{i}.motion_modules.{j}": (("output", first + j), width) for j in range(blocks + 1)
        }
        first += blocks + 1
    return found


def check_fit(config: MotionConfig, unet: UNetConfig, source: object = None) -> None:
    """FileError where a motion module was made for a UNet of other sizes."""
    room = {path: width for path, (_, width) in places(unet).items()}
    for path, sizes in config.modules.items():
        if room.get(path) != sizes.width:
            there = f"{room[path]} channels" if path in room else "no such block"
            raise FileError(
                f"this motion module was made for another model: {path} has {sizes.width} channels",
                source,
                f"{there}, as the model has",
                "give one for the model's family (SD1 or SDXL)",
            )
