"""One job of a batch drawn and published: its file appears complete, once, whoever else draws it too."""

from __future__ import annotations

import io
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..core.errors import FileError
from . import metadata
from .batch_jobs import PICTURES, Job
from .images import open_image
from .pipeline import Pipeline

MARK = ".sigmagraft-batch-"  # begins the names of files that are being written


class Drawer:
    """Draws jobs on one device; the model of the last job stays loaded for the next."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._loads: dict[str, Any] | None = None
        self._pipe: Pipeline | None = None

    def png(self, job: Job) -> bytes:
        """The job's picture with its settings inside. FileError, OptionError, OutOfMemory of that job."""
        draws = {name: _opened(name, value) for name, value in job.draws.items()}
        result = self._loaded(job.loads)(draws.pop("prompt"), **draws)
        (picture,) = result.images
        said = {name: value for name, value in result.settings.items() if name != "batch"}
        return encoded(picture, {**said, **{name: job.settings[name] for name in PICTURES if name in draws}})

    def _loaded(self, loads: dict[str, Any]) -> Pipeline:
        if self._pipe is None or loads != self._loads:
            self._pipe = None  # its memory is wanted for the next one
            options = dict(loads)
            self._pipe = Pipeline.load(options.pop("model", "bundled"), device=self.device, **options)
            self._loads = loads
        return self._pipe


def _opened(name: str, value: Any) -> Any:
    return open_image(Path(value)) if name in PICTURES else value


def encoded(picture: Image.Image, settings: dict[str, Any]) -> bytes:
    """A PNG that holds its settings."""
    info, data = PngInfo(), io.BytesIO()
    info.add_text("parameters", metadata.to_text(settings))
    picture.save(data, "PNG", pnginfo=info)
    return data.getvalue()


def publish(data: bytes, path: Path) -> bool:
    """Write a file in one step; False where it is there already, and then it stays. FileError."""
    partial = path.with_name(f"{MARK}{os.getpid()}-{time.monotonic_ns()}")
    try:
        with open(partial, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # never replaces
        except FileExistsError:
            return False
        except OSError:  # a disk without links
            os.replace(partial, path)
        return True
    except OSError as error:
        raise FileError(f"cannot write: {error}", path, todo="free some space or change --out") from None
    finally:
        with suppress(OSError):
            partial.unlink()
