"""What loading a file found: every tensor used or not, with the reason, and what kind of file it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .lora_file import LoraFile, Unused

__all__ = ["LoadReport", "Unused"]


@dataclass
class LoadReport:
    """``used``: file key -> the weight it changes. ``refused``: why the file does not fit this model, if so."""

    file: LoraFile
    model: str
    used: dict[str, str] = field(default_factory=dict)
    unused: list[Unused] = field(default_factory=list)
    namings: Counter[str] = field(default_factory=Counter)
    networks: Counter[str] = field(default_factory=Counter)
    trainer: str | None = None
    base: str | None = None
    refused: str | None = None
    notes: list[str] = field(default_factory=list)

    def lines(self, all_keys: bool = False) -> list[str]:
        """The report as text; ``all_keys`` lists the used tensors too."""
        rows = [
            ("file", str(self.file.path)),
            ("family", _counted(self.file.families)),
            ("naming", _counted(self.namings)),
            ("rank", _counted(self.file.ranks)),
            ("alpha", _counted(self.file.alphas) or "none: scale 1"),
            ("trainer", self.trainer or "unknown"),
            ("made for", self.base or "unknown"),
            ("changes", _counted(self.networks) or "nothing"),
            ("embeddings", ", ".join(self.file.embeddings)),
            ("tensors", f"{len(self.used)} used, {len(self.unused)} not"),
            ("refused", self.refused or ""),
        ]
        lines = [f"{name:<11}{text}" for name, text in rows if text]
        lines += [f"{'note':<11}{note}" for note in self.notes]
        lines += [f"not used: {_unused(item)}" for item in self.unused]
        if all_keys:
            lines += [f"{key} -> {target}" for key, target in self.used.items()]
        return lines

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def warnings(self) -> list[str]:
        """What a person should see when the file is put to use: one line, or none."""
        found = list(self.notes)
        if self.unused:
            first = _unused(self.unused[0])
            more = f" and {len(self.unused) - 1} more" if len(self.unused) > 1 else ""
            total = len(self.unused) + len(self.used)
            found.append(
                f"{self.file.path.name}: {len(self.unused)} of {total} tensors not used: {first}{more}"
            )
        return found

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values, for JSON."""
        return {
            "file": str(self.file.path),
            "families": dict(self.file.families),
            "namings": dict(self.namings),
            "ranks": {str(rank): n for rank, n in self.file.ranks.items()},
            "alphas": {str(alpha): n for alpha, n in self.file.alphas.items()},
            "trainer": self.trainer,
            "base": self.base,
            "networks": dict(self.networks),
            "embeddings": list(self.file.embeddings),
            "refused": self.refused,
            "notes": self.notes,
            "used": self.used,
            "unused": [item._asdict() for item in self.unused],
        }


def _unused(item: Unused) -> str:
    hint = f"; nearest: {item.nearest}" if item.nearest else ""
    return f"{item.key}: {item.reason}{hint}"


def _counted(counter: Counter[Any]) -> str:
    """`LoRA (192), LoHa (3)`; one kind alone stands without its number."""
    items: Iterable[tuple[Any, int]] = counter.most_common()
    if len(counter) == 1:
        return ", ".join(_plain(item) for item, _ in items)
    shown = [f"{_plain(item)} ({n})" for item, n in items]
    return ", ".join(shown[:6]) + (", ..." if len(shown) > 6 else "")


def _plain(item: Any) -> str:
    return f"{item:g}" if isinstance(item, float) else str(item)
