"""Text encoders of Automatic1111 by transformers' names: those of transformers, and OpenCLIP's with q, k, v in one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ...core.textmap import OPENCLIP_LAYER
from ...loras.delta import Shape
from ...loras.forward import Term

Original = Callable[[nn.Module, str], Tensor]
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def encoder_of(wrapped: Any) -> Encoder | None:
    """The encoder that a host's module holds; None where it holds none."""
    if hasattr(wrapped, "transformer") and hasattr(wrapped, "tokenizer"):
        return Encoder(_huggingface(wrapped.transformer), {})
    inner = getattr(wrapped, "model", None)
    blocks = getattr(getattr(inner, "transformer", None), "resblocks", None)
    return None if inner is None or blocks is None else Encoder(*_openclip(inner, blocks))


class Encoder:
    """``layers``: path -> layer. ``attentions``: path of a self_attn -> OpenCLIP's, which has four layers in one."""

    def __init__(
        self, layers: Mapping[str, nn.Module], attentions: Mapping[str, nn.MultiheadAttention]
    ) -> None:
        self.layers, self.attentions = layers, attentions
        self._joints: list[_Joint] = []

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shape of every parameter that adapters know."""
        found = {
            f"{path}.{name}": tuple(value.shape)
            for path, layer in self.layers.items()
            for name, value in layer.named_parameters(recurse=False)
        }
        for path, attention in self.attentions.items():
            width = attention.embed_dim
            for name in (*_PROJECTIONS, "out_proj"):
                found |= {f"{path}.{name}.weight": (width, width), f"{path}.{name}.bias": (width,)}
        return found

    def joined(self, path: str) -> bool:
        """Whether this parameter is a part of a larger one."""
        return path.rpartition(".")[0].rpartition(".")[0] in self.attentions

    def layer(self, path: str) -> nn.Module:
        """The layer that a parameter is of."""
        return self.layers[path.rpartition(".")[0]]

    def join(self, terms: Mapping[str, Sequence[Term]], original: Original) -> None:
        """Puts exactly these changes on parts of joined parameters."""
        self.part()
        for where, attention in self.attentions.items():
            own = {path[len(where) + 1 :]: terms[path] for path in terms if path.startswith(f"{where}.")}
            if own:
                self._joints.append(_Joint(attention, own, original))

    def part(self) -> None:
        """Takes them off."""
        while self._joints:
            self._joints.pop().handle.remove()


class _Joint:
    """Has an attention called once more, with its parameters plus their changes; what it answers then counts."""

    def __init__(
        self, attention: nn.MultiheadAttention, terms: Mapping[str, Sequence[Term]], original: Original
    ) -> None:
        self.changes = _changes(attention, terms, original)
        self.again = False
        self.handle = attention.register_forward_hook(self, with_kwargs=True)

    def __call__(self, attention: nn.Module, args: Any, named: dict[str, Any], output: Any) -> Any:
        if self.again:
            return output
        now = dict(attention.named_parameters())
        changed = {name: now[name] + change.to(now[name]) for name, change in self.changes.items()}
        self.again = True
        try:
            return torch.func.functional_call(attention, changed, args, named)
        finally:
            self.again = False


@torch.inference_mode(False)
@torch.no_grad()
def _changes(
    attention: nn.MultiheadAttention, terms: Mapping[str, Sequence[Term]], original: Original
) -> dict[str, Tensor]:
    """Parameter -> its change, those of q, k and v one below the other."""
    found: dict[str, Tensor] = {}
    for kind in ("weight", "bias"):
        joined = f"in_proj_{kind}"
        rows = original(attention, joined).float().chunk(3)
        if any(f"{part}.{kind}" in terms for part in _PROJECTIONS):
            pairs = zip(_PROJECTIONS, rows, strict=True)
            found[joined] = torch.cat([_total(terms.get(f"{part}.{kind}", ()), own) for part, own in pairs])
        if own := terms.get(f"out_proj.{kind}"):
            found[f"out_proj.{kind}"] = _total(own, _output(attention, kind).float())
    return found


def _output(attention: nn.MultiheadAttention, kind: str) -> Tensor:
    """The output projection as the file has it; the host keeps its copy with the attention."""
    kept = getattr(attention, f"network_{'bias' if kind == 'bias' else 'weights'}_backup", None)
    if kept is not None:
        return kept[1] if isinstance(kept, tuple) else kept
    return getattr(attention.out_proj, kind).data


def _total(terms: Sequence[Term], weight: Tensor) -> Tensor:
    total = torch.zeros_like(weight)
    for term in terms:
        total += term.delta.delta(weight, term.strength)
    return total


def _huggingface(transformer: nn.Module) -> dict[str, nn.Module]:
    """Layers of a CLIPTextModel; embeddings are wrapped by the host, and newer versions leave `text_model.` out."""
    found = {}
    for name, layer in transformer.named_modules():
        if next(layer.parameters(recurse=False), None) is not None:
            path = name.removesuffix(".wrapped")
            found[path if path.startswith(("text_model.", "text_projection")) else f"text_model.{path}"] = (
                layer
            )
    return found


def _openclip(
    model: nn.Module, blocks: nn.ModuleList
) -> tuple[dict[str, nn.Module], dict[str, nn.MultiheadAttention]]:
    layers: dict[str, nn.Module] = {"text_model.final_layer_norm": model.ln_final}  # type: ignore[dict-item]
    attentions: dict[str, nn.MultiheadAttention] = {}
    for number, block in enumerate(blocks):
        path = f"text_model.encoder.layers.{number}"
        attentions[f"{path}.self_attn"] = block.attn  # type: ignore[assignment]
        for theirs, name in OPENCLIP_LAYER.items():
            if not theirs.startswith("attn."):
                layers[f"{path}.{name}"] = block.get_submodule(theirs)
    return layers, attentions
