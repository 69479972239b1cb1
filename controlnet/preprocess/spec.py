"""What a preprocessor is: a function from a picture to a hint, with the options it declares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from PIL import Image

from ...core.option import Option, resolve
from ...core.registry import Registry

Function = Callable[..., Image.Image]


@dataclass(frozen=True)
class Preprocessor:
    """`run(image, **options)` gets 8-bit RGB and gives a picture of the same size.

    `holes` says that it takes RGBA, what is transparent being masked; for the others that is white. `texts` are options
    that are words of a person's own (a file, a hub id): name -> help.
    """

    name: str
    label: str
    run: Function
    options: tuple[Option, ...] = ()
    texts: Mapping[str, str] | None = None
    aliases: tuple[str, ...] = ()
    holes: bool = False

    @property
    def doc(self) -> str:
        """The first paragraph of the function's docstring."""
        return (self.run.__doc__ or "").split("\n\n")[0]

    @property
    def option_names(self) -> list[str]:
        """All that may be given."""
        return [option.name for option in self.options] + list(self.texts or ())

    def __call__(self, image: Image.Image, options: Mapping[str, Any] | None = None) -> Image.Image:
        """The hint of a picture. OptionError for an unknown option or a value out of range."""
        given, texts = dict(options or {}), self.texts or {}
        words = {name: given.pop(name) for name in texts if name in given}
        values = resolve(self.options, given, f"preprocessor {self.name}")
        keep = self.holes and image.mode == "RGBA"
        return self.run(image if keep else opaque(image), **values, **words)


def opaque(image: Image.Image) -> Image.Image:
    """RGB; what is transparent becomes white."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")


PREPROCESSORS: Registry[Preprocessor] = Registry("preprocessor")


def preprocessor(
    name: str,
    *,
    label: str,
    options: tuple[Option, ...] = (),
    texts: Mapping[str, str] | None = None,
    aliases: tuple[str, ...] = (),
    holes: bool = False,
) -> Callable[[Function], Function]:
    """Registers a function as a preprocessor."""

    def register(function: Function) -> Function:
        PREPROCESSORS.add(Preprocessor(name, label, function, options, texts, aliases, holes))
        return function

    return register


def preprocess(name: str, image: Image.Image, options: Mapping[str, Any] | None = None) -> Image.Image:
    """A picture's hint by name; OptionError with the nearest names for an unknown one."""
    return PREPROCESSORS[name](image, options)
