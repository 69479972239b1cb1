"""Write `samplers/fitted_table.py` from the fits: `python -m training.write_schedule sd.json infinite.json`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

TARGET = Path(__file__).parent.parent / "samplers" / "fitted_table.py"
HEAD = '''"""Levels of the schedule `fitted`: steps -> noise to signal after the first.

Written by training.write_schedule.

SD begins at the sigma_max of Stable Diffusion, INFINITE where there is no signal.
"""

from __future__ import annotations

'''


def table(name: str, fits: dict[str, dict]) -> str:
    """A dictionary as Python."""
    rows = [
        f"    {steps}: ({_numbers(fits[str(steps)]['sigmas'][1:])},),\n" for steps in sorted(map(int, fits))
    ]
    return f"{name}: dict[int, tuple[float, ...]] = {{\n{''.join(rows)}}}\n"


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Write the table of the fitted schedule.")
    parser.add_argument("sd", type=Path)
    parser.add_argument("infinite", type=Path)
    args = parser.parse_args()
    parts = [
        table(name, json.loads(path.read_text()))
        for name, path in (("SD", args.sd), ("INFINITE", args.infinite))
    ]
    TARGET.write_text(HEAD + "\n".join(parts))


if __name__ == "__main__":
    main()
