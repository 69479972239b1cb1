"""`python -m sigmagraft`, or `python path/to/the/checkout`: the command line."""

from __future__ import annotations

import sys

if __package__:
    from .standalone.cli import main
else:
    import runpy
    from pathlib import Path

    root = Path(__file__).resolve().parent
    main = runpy.run_path(str(root / "bootstrap.py"))["command_line"](beside=root)

if __name__ == "__main__":
    sys.exit(main())
