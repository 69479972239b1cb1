"""What every control does alike in a run: strength by sigma, pictures made into hints once for each size."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from PIL import Image
from torch import Tensor

from ..core.errors import OptionError
from ..core.patch import EvaluationPatch, StepInfo
from .hints import Masks, to_hint, to_mask
from .host import Host
from .preprocess import PREPROCESSORS, preprocess
from .resize import Size, eight_bit, fit_image, picture_of
from .settings import MODES, Control
from .share import Share
from .strength import only_prompt, strength_at


class Acting:
    """One control in one run. It keeps nothing in the model: without its patches it has never been there.

    `foreign` are settings that mean nothing to this kind, `modes` those that mean something.
    """

    foreign: tuple[str, ...] = ("frames", "joint_norm", "fidelity", "vision")
    modes: tuple[str, ...] = MODES

    def __init__(self, control: Control, host: Host) -> None:
        self.control, self.host = control, host
        self._check_settings()
        self._hints: dict[tuple[Size, int], Tensor] = {}
        self._masks: dict[Size, Masks] = {}

    def _check_settings(self) -> None:
        """OptionError for what would be ignored."""
        usual = vars(Control(model=""))
        if bad := [name for name in self.foreign if getattr(self.control, name) != usual[name]]:
            raise OptionError(
                f"the setting {bad[0]} means nothing to this kind of control", self.control.model
            )
        if self.control.mode not in self.modes:
            raise OptionError(
                f"mode {self.control.mode!r} means nothing to this kind of control",
                self.control.model,
                " or ".join(self.modes),
            )

    def patches(self) -> Iterable[EvaluationPatch]:
        """Its patches; they ask for the strength themselves."""
        raise NotImplementedError

    def strength(self, info: StepInfo) -> float:
        """How strongly it acts in this evaluation; at 0 it costs nothing."""
        return strength_at(self.control, self.host.timeline, info.sigma)

    def active(self, info: StepInfo) -> bool:
        """Whether it changes anything in this evaluation."""
        return bool(self.strength(info)) and any(self.share(info).acts)

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
            names = self.methods()
            made = [
                self._hint(image, name, size, to) for image, name in zip(self.pictures(), names, strict=True)
            ]
            self._hints[key] = torch.cat(made).to(like)
        return self._hints[key]

    def methods(self) -> list[str]:
        """The preprocessor of each picture. OptionError where there are neither one nor as many."""
        names, count = self.control.preprocess.split("+"), len(self.pictures())
        if len(names) not in (1, count):
            raise OptionError(f"{len(names)} preprocessors for {count} pictures", self.control.model)
        return names if len(names) == count else names * count

    def _hint(self, image: Image.Image, name: str, size: Size, to: Size) -> Tensor:
        known = PREPROCESSORS[name].option_names
        options = {option: value for option, value in self.control.options.items() if option in known}
        image = preprocess(name, fit_image(picture_of(image), size, self.control.resize), options)
        return to_hint(fit_image(image, to, "stretch"))

    def masks(self, size: Size) -> Masks:
        """The mask of effect for a run of this size."""
        if size not in self._masks:
            mask = self.control.mask
            fitted = None if mask is None else to_mask(fit_image(eight_bit(mask), size, self.control.resize))
            self._masks[size] = Masks(fitted)
        return self._masks[size]
