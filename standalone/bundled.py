"""The bundled model's own adapters, known by their names; a file of the user's of that name comes first."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

from ..core.errors import FileError, nearest

ASSETS = Path(__file__).parent / "assets"


def names_of(kind: str) -> list[str]:
    """What is bundled of `controls`, `ip_adapters`, `loras` or `motion`."""
    files = (ASSETS / kind).glob("*.safetensors")
    return sorted(path.stem for path in files if not path.stem.endswith(".encoder"))


def bundled(kind: str, source: object) -> Path | None:
    """The file of a bundled name; None where `source` is something else. FileError for a name that is nearly one."""
    name, known = str(source), names_of(kind)
    if "/" in name or Path(name).expanduser().exists():
        return None
    if name in known:
        return ASSETS / kind / f"{name}.safetensors"
    if get_close_matches(name.lower(), known):
        raise FileError("no such file", name, todo=nearest(name, known))
    return None
