"""Standing before a UNet while a walk lasts, where a host has no place for it that nobody else can take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from torch import nn

Given = tuple[tuple[Any, ...], dict[str, Any]]
Around = Callable[[tuple[Any, ...], dict[str, Any]], AbstractContextManager[Given]]


@contextmanager
def entered(unet: nn.Module, around: Around) -> Iterator[None]:
    """Every call of the UNet stands inside `around`, which answers its arguments; afterwards nothing is left."""
    open_now = ExitStack()

    def before(module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Given:
        open_now.close()
        return open_now.enter_context(around(args, named))

    def after(*_: Any) -> None:
        open_now.close()

    with ExitStack() as stack:
        stack.callback(open_now.close)
        stack.callback(unet.register_forward_pre_hook(before, with_kwargs=True).remove)
        stack.callback(unet.register_forward_hook(after, always_call=True).remove)
        yield
