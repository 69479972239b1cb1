"""Loading and weighing IP-Adapters by the method names that users of diffusers know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..controlnet.ip_features import Features
from ..controlnet.ip_settings import ImagePrompt
from ..core.errors import OptionError
from .hub import Hub
from .ip_adapter import IPAdapters, Loaded
from .ip_adapter_source import FOLDER, locate_ip_adapter
from .ip_adapter_text import ImageRequest

IMAGE, EMBEDS, MASKS = "ip_adapter_image", "ip_adapter_image_embeds", "ip_adapter_masks"


class IPAdapterVerbs:
    """For whatever has its IP-Adapters in ``ip_adapters``."""

    ip_adapters: IPAdapters

    def load_ip_adapter(
        self,
        source: str | Path | Sequence[str | Path],
        subfolder: str | Sequence[str | None] | None = None,
        weight_name: str | Sequence[str | None] | None = None,
        image_encoder_folder: str | None = FOLDER,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool | None = None,
    ) -> None:
        """Load one IP-Adapter, or several from lists, in the place of those there are: a file, folder or hub id.

        Each is then given pictures with ``ip_adapter_image``. The image encoder is looked for in
        ``image_encoder_folder`` of the source, else where it usually lies. FileError, OptionError.
        """
        hub = Hub(revision, token, local_files_only or None)
        given = (source, subfolder, weight_name)
        count = max(len(_list(each)) for each in given)
        rows = zip(*(_spread(each, count) for each in given), strict=True)
        loaded: list[Loaded] = []
        for one, folder, name in rows:
            weights = self.ip_adapters.open(locate_ip_adapter(one, folder, name, hub))
            weights.check(self.ip_adapters.model.unet.config)
            loaded.append(Loaded(weights, _encoder(one, folder, image_encoder_folder)))
        self.ip_adapters.loaded = loaded

    def set_ip_adapter_scale(self, scale: Any) -> None:
        """How strongly each acts: a number, or diffusers' table {"down": {"block_2": [0.0, 1.0]}, "up": ...} of
        transformers, or a list of them, one for each adapter.
        """
        loaded = self.ip_adapters.loaded
        scales = scale if isinstance(scale, (list, tuple)) else [scale] * len(loaded)
        if len(scales) != len(loaded):
            raise OptionError(f"{len(scales)} scales for {len(loaded)} IP-Adapters", expected="one for each")
        for one, value in zip(loaded, scales, strict=True):
            one.scale = float(value) if isinstance(value, (int, float)) else layers_of(value)

    def unload_ip_adapter(self) -> None:
        """Forget all IP-Adapters."""
        self.ip_adapters.loaded = []

    def with_image_prompts(self, settings: dict[str, Any]) -> dict[str, Any]:
        """The settings of a call with diffusers' names for pictures as image prompts of the loaded adapters."""
        loaded, rest = self.ip_adapters.loaded, dict(settings)
        images, embeds, masks = (rest.pop(name, None) for name in (IMAGE, EMBEDS, MASKS))
        if images is None and embeds is None:
            if loaded and not rest.get("ip_adapter"):
                raise OptionError(
                    f"{len(loaded)} IP-Adapters are loaded, and no picture is given",
                    todo=f"give {IMAGE}, or unload_ip_adapter()",
                )
            return rest
        given = _one_each(embeds if images is None else images, len(loaded))
        made = [
            _request(one, value, images is None, mask)
            for one, value, mask in zip(loaded, given, _one_each(masks, len(loaded)), strict=True)
        ]
        rest["ip_adapter"] = [*(rest.get("ip_adapter") or ()), *made]
        return rest


def _encoder(source: str | Path, subfolder: str | None, folder: str | None) -> Path | str | None:
    """Where diffusers looks: `folder` inside the source's subfolder, or from the top where it is a path."""
    if folder is None:
        return None
    inner = folder if "/" in folder or not subfolder else f"{subfolder}/{folder}"
    path = Path(source).expanduser()
    if path.exists():
        there = path / inner
        return there if there.is_dir() else None
    return f"{source}/{inner}"


def _request(one: Loaded, value: Any, embeds: bool, mask: Any) -> ImageRequest:
    prompt = _prompt_of_embeds(one, value) if embeds else ImagePrompt(_list(value))
    scale = {"weight": one.scale} if isinstance(one.scale, float) else {"layers": one.scale}
    return ImageRequest(one.weights, replace(prompt, mask=mask, **scale), one.encoder)  # type: ignore[arg-type]


def _prompt_of_embeds(one: Loaded, value: Any) -> ImagePrompt:
    """Features, or a tensor [2, n, ...] of negative and positive ones as diffusers has them, or [n, ...]."""
    if isinstance(value, Features):
        return ImagePrompt(features=value)
    if not isinstance(value, torch.Tensor) or value.ndim < 2:
        raise OptionError(f"{EMBEDS} of {type(value).__name__}", expected="Features or a tensor [2, n, ...]")
    name = one.weights.file.inputs[0]
    ranks = {"pooled": 2, "face": 2, "hidden": 3}
    negative, positive = value if value.ndim > ranks[name] and len(value) == 2 else (None, value)
    positive = positive[0] if positive.ndim > ranks[name] else positive
    given = None if negative is None else Features(**{name: negative})
    return ImagePrompt(features=Features(**{name: positive}), negative_features=given)


def _one_each(value: Any, count: int) -> list[Any]:
    """A list with an entry for each adapter; what is not one is for the only adapter."""
    if value is None:
        return [None] * count
    values = list(value) if isinstance(value, (list, tuple)) else [value]
    if count == 1 and len(values) != 1:
        return [values]
    if len(values) != count:
        raise OptionError(
            f"pictures for {len(values)} IP-Adapters, {count} are loaded", expected="one entry each"
        )
    return values


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def layers_of(scale: Mapping[str, Any]) -> dict[str | int, float]:
    """diffusers' table by block as weights of layers; what it does not name is 0."""
    found: dict[str | int, float] = {}
    for side, value in scale.items():
        if side not in ("down", "mid", "up"):
            raise OptionError(f"{side!r} in a scale by block", expected="down, mid, up")
        blocks = value if isinstance(value, Mapping) else {"": value}
        for block, factors in blocks.items():
            stem = f"{side}_blocks.{block.removeprefix('block_')}" if side != "mid" else "mid_block"
            for j, factor in enumerate(_list(factors)):
                found[f"{stem}.attentions.{j}"] = float(factor)
    return found


def _spread(value: Any, count: int) -> list[Any]:
    values = _list(value)
    if len(values) not in (1, count):
        raise OptionError(
            f"{len(values)} entries for {count} IP-Adapters", expected="one for each, or one for all"
        )
    return values * (count // len(values))
