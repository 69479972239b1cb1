"""The bundled model's own adapters, known by their names; a file of the user's of that name comes first."""

from __future__ import annotations

from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def bundled(kind: str, source: object) -> Path | None:
    """The file of a name among `controls`, `ip_adapters` or `motion`; None where there is none, or one of that path."""
    path = ASSETS / kind / f"{source}.safetensors"
    return path if path.is_file() and not Path(str(source)).expanduser().exists() else None
