"""What every control does alike in a run: strength by sigma, pictures made into hints once for each size."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, StepInfo
from ..core.resize import Size, fit_image
from .hints import Masks, to_hint, to_mask
from .host import Host
from .preprocess import preprocess
from .settings import Control
from .share import Share
from .strength import only_prompt, strength_at


class Acting:
    """One control in one run. It keeps nothing in the model: without its patches it has never been there."""

    def __init__(self, control: Control, host: Host) -> None:
        self.control, self.host = control, host
        self._hints: dict[tuple[Size, int], Tensor] = {}
        self._masks: dict[Size, Masks] = {}

    def patches(self) -> Iterable[EvaluationPatch]:
        """Its patches; they ask for the strength themselves."""
        raise NotImplementedError

    def strength(self, info: StepInfo) -> float:
        """How strongly it acts in this evaluation; at 0 it costs nothing."""
        return strength_at(self.control, self.host.timeline, info.sigma)

    def share(self, info: StepInfo) -> Share:
        """The part of the batch it acts on."""
        return Share.of(info, only_prompt(self.control))

    def size(self, info: StepInfo) -> Size:
        """Width and height in pixels of what is drawn."""
        assert info.inputs is not None
        height, width = info.inputs.x.shape[-2:]
        return width * self.host.factor, height * self.host.factor

    def pictures(self) -> list[Image.Image]:
        """The control's pictures. OptionError where it has none."""
        if not self.control.images:
            raise OptionError("a control without a picture", where=self.control.model, todo="give it one")
        return self.control.images

    def hints(self, size: Size, like: Tensor, multiple: int = 1) -> Tensor:
        """Every picture as a hint [n, 3, H, W] in 0..1, at `size` rounded up to a multiple; made once."""
        key = (size, multiple)
        if key not in self._hints:
            to = (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
            made = [self._hint(image, size, to) for image in self.pictures()]
            self._hints[key] = torch.cat(made).to(like)
        return self._hints[key]

    def _hint(self, image: Image.Image, size: Size, to: Size) -> Tensor:
        image = fit_image(image, size, self.control.resize)
        image = preprocess(self.control.preprocess, image, self.control.options)
        return to_hint(fit_image(image, to, "stretch"))

    def masks(self, size: Size) -> Masks:
        """The mask of effect for a run of this size."""
        if size not in self._masks:
            mask = self.control.mask
            fitted = None if mask is None else to_mask(fit_image(mask, size, self.control.resize))
            self._masks[size] = Masks(fitted)
        return self._masks[size]
