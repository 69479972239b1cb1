"""Nodes that write a control's lists: keyframes one after the other, a weight for each output."""

from __future__ import annotations

from ...controlnet.settings import MAX_STRENGTH
from .control_fields import share
from .control_nodes import CATEGORY, strength_field
from .fields import Field
from .node import Node

OUTPUTS = {"SD1, SD2": 13, "SDXL": 10}


class Keyframe(Node):
    """One keyframe after those before it."""

    ID, TITLE, CATEGORY = "SigmaGraftControlKeyframe", "SigmaGraft Control Keyframe", CATEGORY
    RETURN_TYPES = ("STRING",)
    DESCRIPTION = "A factor on the strength from a share of the steps on, for the keyframes of Apply Control."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        told = {"default": "", "forceInput": True, "tooltip": "the keyframes before"}
        return {
            "required": {
                "at": share(0.0, "the share of the steps from which it holds"),
                "factor": strength_field("what the strength is multiplied with"),
            },
            "optional": {"keyframes": ("STRING", told)},
        }

    def make(self, at: float, factor: float, keyframes: str = "") -> tuple[str]:
        return (", ".join([*([keyframes] if keyframes.strip() else []), f"{at:g}@{factor:g}"]),)


class BlockWeights(Node):
    """A weight for each output of a ControlNet, falling from the last to the first."""

    ID, TITLE, CATEGORY = "SigmaGraftControlWeights", "SigmaGraft Control Block Weights", CATEGORY
    RETURN_TYPES = ("STRING",)
    DESCRIPTION = (
        "Weights for the block_weights of Apply Control: soft to the power of how far an output is from the last, "
        "times a factor for the shallow half, the deep half and the middle block. Soft 0.825 is A1111's."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, dict[str, Field]]:
        soft = {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.005, "round": False}
        return {
            "required": {
                "model_family": (list(OUTPUTS), {"tooltip": "how many outputs there are"}),
                "soft": ("FLOAT", {**soft, "tooltip": "1 is all alike; 0.825 makes shallow outputs weaker"}),
                "shallow": strength_field("the first half of the input blocks: detail"),
                "deep": strength_field("the second half: composition"),
                "middle": strength_field("the middle block"),
            }
        }

    def make(self, model_family: str, soft: float, shallow: float, deep: float, middle: float) -> tuple[str]:
        last = OUTPUTS[model_family] - 1
        parts = [shallow if n < last / 2 else deep for n in range(last)] + [middle]
        weights = [min(soft ** (last - n) * part, MAX_STRENGTH) for n, part in enumerate(parts)]
        return (", ".join(f"{weight:.6g}" for weight in weights),)
