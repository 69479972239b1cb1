"""`python standalone ...` from a bare checkout, or `python -m sigmagraft.standalone`: the command line."""

from __future__ import annotations

import sys

if __package__:
    from .cli import main
else:
    import runpy
    from pathlib import Path

    here = Path(__file__).resolve().parent
    main = runpy.run_path(str(here.parent / "bootstrap.py"))["command_line"](beside=here)

if __name__ == "__main__":
    sys.exit(main())
