"""The command line. `main` finds the command, runs it and turns every failure into one line and an exit code.

0: done. 1: a failure of ours (--debug shows the trace). 2: something to put right. 130: stopped with Ctrl-C.
"""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module

from ... import __version__
from ...core.errors import OptionError, SigmaGraftError

# command -> (module of this folder, one line of help); each module has `run(argv) -> int`
COMMANDS = {
    "txt2img": ("txt2img", "pictures from a prompt (what runs when no command is named)"),
    "img2img": ("img2img", "a picture redrawn after a prompt, by --strength"),
    "inpaint": ("inpaint", "the masked part of a picture repainted"),
    "animate": ("animate", "a clip from a prompt, with motion modules of AnimateDiff"),
    "outpaint": ("outpaint", "what is around a picture, painted"),
    "batch": ("batch", "a file of jobs drawn over all devices, a picture each, resumable"),
    "convert": ("convert", "a model as one file or as a folder, in another dtype"),
    "resume": ("resume", "a run that --stop-at has stopped, gone on with"),
    "compare": ("compare", "samplers side by side: a grid, their cost and distance, a plot"),
    "statistics": ("statistics", "a model measured, for the sampler DPM-Solver-v3"),
    "calibrate": ("calibrate", "a solver of few steps fitted to a model"),
    "samplers": ("samplers", "the samplers, what they do and their options"),
    "schedules": ("schedules", "the noise schedules and their options"),
    "guidances": ("guidances", "what changes how the prompt pulls, and its options"),
    "noises": ("noises", "the types of noise that samplers can add to their steps"),
    "preprocess": ("preprocess", "the hint of a picture for a ControlNet; alone: the preprocessors"),
    "lora": ("lora", "LoRA files inspected, converted, resized, merged"),
    "inspect": ("inspect_file", "what a weights file or a picture is"),
}
DEFAULT = "txt2img"


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; `argv` as after the program's name. Returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name the terminal cannot show is no failure
    try:
        code = _dispatch(words)
        sys.stdout.flush()  # a full disk or a closed pipe shows here, not while Python is leaving
        return code
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    except BrokenPipeError:  # the reader of our output has left (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except SigmaGraftError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        return 2
    except MemoryError:
        if debug:
            traceback.print_exc()
        _say("out of memory; lower --size, --batch or --count with --grid")
        return 2
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"{type(error).__name__}: {error}" + ("" if debug else "; run again with --debug for the trace"))
        return 1


def _say(text: str) -> None:
    print(f"sigmagraft: {' '.join(text.split())}", file=sys.stderr)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help())
        return 0
    if words[0] == "--version":
        print(f"sigmagraft {__version__}")
        return 0
    if words[0] == "--debug":
        words.append(words.pop(0))  # the command may stand after it
    name = DEFAULT
    if words[0] in COMMANDS:
        name = words.pop(0)
    elif not words[0].startswith("-"):
        _refuse_typo(words[0])
    return import_module(f".{COMMANDS[name][0]}", __name__).run(words)


def _refuse_typo(word: str) -> None:
    """A single word one slip away from a command is no prompt: minutes of work would hang on it."""
    close = get_close_matches(word, COMMANDS, n=1, cutoff=0.85)
    if close:
        todo = f"did you mean {close[0]!r}? To draw that word: sigmagraft txt2img {word}"
        raise OptionError(f"unknown command {word!r}", todo=todo)


def _help() -> str:
    rows = "\n".join(f"  {name:<10} {text}" for name, (_, text) in COMMANDS.items())
    return f"""usage: sigmagraft [command] [options]

  sigmagraft "a large red circle on a blue background"     draws it with the bundled model
  sigmagraft --model dreams.safetensors "a castle, dawn"   draws with your checkpoint

commands:
{rows}

`sigmagraft COMMAND --help` tells a command's options, `sigmagraft --version` the version."""
