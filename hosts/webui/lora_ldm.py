"""Adapters in Automatic1111, whose networks are plain modules: terms beside weights that are the host's to merge.

Its own LoRAs are written into the weights when a layer is called next, with a copy kept of what was there: whoever
else writes into a weight would come back with that copy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ...core.errors import OptionError
from ...loras import Forward, Targets
from ...loras.forward import Term, hookable
from ...loras.targets import NETWORKS
from ..loras import Acting, Layout, split
from ..loras_moving import Moving
from .lora_place import place
from .lora_switch import Switch, exactly
from .lora_text import Encoder, encoder_of

UNET_KEY = "input_blocks.0.0.weight"


class LdmModel:
    """The adapters of one loaded model."""

    def __init__(self, model: Any) -> None:
        self.unet: nn.Module = model.model.diffusion_model
        self.encoders: dict[str, Encoder] = dict(zip(NETWORKS[1:], _encoders(model), strict=False))
        self.layout = self._layout()
        self._switch: Switch | None = None
        self._text: Forward | None = None

    def _layout(self) -> Layout | None:
        shapes = {name: tuple(value.shape) for name, value in self.unet.named_parameters()}
        if UNET_KEY not in shapes:
            return None
        texts = [encoder.shapes for encoder in self.encoders.values()]
        label = Layout.of(
            {f"diffusion_model.{name}": shape for name, shape in shapes.items()}, None
        ).targets.label
        return Layout(Targets.of(shapes, texts, label), dict.fromkeys(["unet", *self.encoders], ""))

    def put(self, acting: Acting, name: str) -> None:
        """Exactly these adapters, beside what the host has put on. OptionError for a layer without a rule."""
        self.off()
        if not acting or self.layout is None:
            return
        fixed, moving = split(acting)
        terms = {key: [Term(change, strength) for change, strength in own] for key, own in fixed.items()}
        unet = {key: own for key, own in terms.items() if key.startswith("unet.")}
        for key, own in moving.items():
            unet.setdefault(key, []).extend(own)
        try:
            if unet:
                self._switch = Switch(self.unet, Moving(unet), place, lambda path: _weight(self.unet, path))
            with exactly():
                self._put_text({key: own for key, own in terms.items() if not key.startswith("unet.")})
        except BaseException:
            self.off()
            raise

    def _put_text(self, terms: Mapping[str, list[Term]]) -> None:
        plain: dict[str, nn.Module] = {}
        for key in terms:
            network, _, path = key.partition(".")
            encoder = self.encoders[network]
            if encoder.joined(path):
                continue
            plain[key] = encoder.layer(path)
            if not hookable(plain[key]):
                raise OptionError(
                    f"{key} ({type(plain[key]).__name__}) has no rule", todo="update SigmaGraft"
                )
        originals = {key: (layer, key.rpartition(".")[2]) for key, layer in plain.items()}
        self._text = Forward(plain, lambda key: _original(*originals[key]))
        self._text.set({key: terms[key] for key in plain})
        for network, encoder in self.encoders.items():
            own = {key.partition(".")[2]: terms[key] for key in terms if key.startswith(f"{network}.")}
            encoder.join({path: value for path, value in own.items() if encoder.joined(path)}, _original)

    def off(self) -> None:
        """Every term taken off."""
        if self._switch is not None:
            self._switch.off()
        if self._text is not None:
            self._text.clear()
        for encoder in self.encoders.values():
            encoder.part()
        self._switch = self._text = None


def _encoders(model: Any) -> list[Encoder]:
    """The text encoders, in their order: SDXL's stand among other embedders."""
    conditioner = getattr(model, "conditioner", None)
    held = [model.cond_stage_model] if conditioner is None else list(conditioner.embedders)
    found = (encoder_of(getattr(one, "wrapped", one)) for one in held)
    return [encoder for encoder in found if encoder is not None]


def _weight(network: nn.Module, path: str) -> Tensor:
    layer, _, parameter = path.rpartition(".")
    return _original(network.get_submodule(layer), parameter)


def _original(layer: nn.Module, parameter: str) -> Tensor:
    """A parameter as the model's file has it: the host keeps a copy of what it writes into."""
    kept = getattr(layer, f"network_{'bias' if parameter.endswith('bias') else 'weights'}_backup", None)
    if isinstance(kept, tuple):  # of an attention: its fused projections, its output
        kept = kept[0]
    return kept if kept is not None and parameter != "in_proj_bias" else getattr(layer, parameter).data
