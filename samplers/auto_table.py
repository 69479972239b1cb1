"""What the sampler `auto` chooses from, by what was measured. Written by benchmarks.auto_table."""

from __future__ import annotations

# (rectified flow, guided) -> what was measured
CASES: dict[tuple[bool, bool], str] = {}

# (rectified flow, guided) -> evaluations -> best general way, its error, that of dpmpp_2m karras
TABLE: dict[tuple[bool, bool], dict[int, tuple[str, float, float]]] = {}
