"""Train the bundled model from nothing and write its file: `python -m training`.

Runs the steps below one after the other; each resumes where it stopped, so the command may be interrupted and
given again at any time.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

# The encoder must stand still before latents are cached; the decoder may go on learning at the very end.
STEPS: tuple[tuple[str, ...], ...] = (
    ("training.train_text",),
    ("training.train_vae", "--steps", "750", "--cool", "0"),
    ("training.latents",),
    ("training.train_unet",),
    ("training.train_vae", "--steps", "2600"),
    ("training.export",),
)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="Train the bundled model from nothing.")
    parser.add_argument("--runs", type=Path, default=Path("training/runs"), help="folder of all runs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for number, step in enumerate(STEPS, start=1):
        command = [sys.executable, "-m", *step, "--runs", str(args.runs), "--seed", str(args.seed)]
        print(f"[{number}/{len(STEPS)}] {' '.join(command[2:])}", flush=True)
        code = subprocess.run(command, check=False).returncode
        if code:
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
