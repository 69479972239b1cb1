"""Make this checkout importable as `sigmagraft`, whatever its folder is called.

For entry points that start outside the package (scripts of hosts, tests, `python standalone`); they run this
file with `runpy.run_path`, so it needs no name of its own. `sys.path` is never extended: a folder there would
offer our `samplers` and `core` as top-level modules to everybody else in the process.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

NAME = "sigmagraft"
ROOT = Path(__file__).resolve().parent


def load() -> ModuleType:
    """Return this checkout as the module `sigmagraft`, importing it on the first call.

    Raises ImportError when the process already holds a `sigmagraft` from another folder: two copies under one
    name would mix their modules.
    """
    loaded = sys.modules.get(NAME)
    if loaded is not None:
        return _same_folder(loaded)
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{ROOT} holds no __init__.py; clone or unpack the project again")
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[NAME]
        raise
    return module


def command_line(beside: Path) -> Callable[[], int]:
    """Load the package and return its command line's `main`.

    `beside` is the folder Python put first on `sys.path` to run the caller; it is taken off again, since its
    modules (`text`, `memory`, ...) would shadow other people's.
    """
    if sys.path and Path(sys.path[0] or ".").resolve() == beside:
        del sys.path[0]
    load()
    return importlib.import_module(f"{NAME}.standalone.cli").main


def web_script() -> type | None:
    """Start inside a web UI: the script it registers, or None and one line on its console where that failed."""
    try:
        load()
        # SD.Next loads the same scripts, but its samplers are scheduler classes
        sdnext = importlib.util.find_spec("modules.sd_samplers_diffusers") is not None
        return importlib.import_module(f"{NAME}.hosts.{'sdnext' if sdnext else 'webui.start'}").start()
    except Exception as error:  # the web UI must start without us
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        print(
            f"[SigmaGraft] could not start: {reason}; update or disable the extension, the web UI goes on without it"
        )
        return None


def _same_folder(loaded: ModuleType) -> ModuleType:
    file = getattr(loaded, "__file__", None)
    if file is None or Path(file).resolve().parent != ROOT:
        raise ImportError(
            f"`{NAME}` is already loaded from {file}, wanted {ROOT}; keep one copy of the project per process"
        )
    return loaded
