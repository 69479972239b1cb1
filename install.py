"""Install what SigmaGraft needs; standard library only.

    python install.py                   what a host calls at every start: installs what is missing (a web UI: nothing)
    python install.py picture "PROMPT"  tested versions into a virtual environment, then a picture of PROMPT
    python install.py test              the test extras as well, then all tests

Without a word after it no version that is there is ever changed. `picture` and `test` use the virtual
environment that is active, else `.venv` beside this file, which they make; what follows them is passed on to
the command line or to pytest.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent
OWN_ENVIRONMENT = ROOT / ".venv"
CPU_WHEELS = "https://download.pytorch.org/whl/cpu"
TORCH_FLOOR = "2.4"
KEPT = ("torch", "numpy")  # people choose these for their GPU and their other programs
LOCKS = {"picture": ["run.txt"], "test": ["test.txt", "test-no-deps.txt"]}


class InstallError(Exception):
    """One line: what failed and what to do."""


def main(arguments: list[str]) -> int:
    """Answer the exit status: 0 done, 1 pip or what was run failed, 2 not understood."""
    try:
        if sys.version_info < (3, 10):  # noqa: UP036 - an older Python gets to read this
            raise InstallError(f"Python {sys.version.split()[0]} is too old; 3.10 or newer is needed")
        if not arguments:
            return 0 if in_web_ui() else install_missing()
        if arguments[0] not in LOCKS:
            print(__doc__)
            return 0 if arguments[0] in ("-h", "--help") else 2
        return install_and_run(arguments)
    except InstallError as error:
        print(f"sigmagraft: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


# --- for a host, at every start


def in_web_ui() -> bool:
    """Whether a web UI's launcher asks (A1111 and its family): samplers need nothing that it does not ship.

    The launcher names its own folder first in PYTHONPATH.
    """
    first = os.environ.get("PYTHONPATH", "").partition(os.pathsep)[0]
    return bool(first) and Path(first, "modules", "launch_utils.py").is_file()


def install_missing() -> int:
    """Install each requirement that no version of is there; every version that is there stays as it is."""
    wanted = requirements(ROOT / "requirements.txt")
    there = {name: installed_version(name) for name in wanted}
    for name, version in there.items():
        if version and older(version, wanted[name].partition(">=")[2]):
            print(f"sigmagraft: {name} {version} is there and stays; {wanted[name]} is recommended")
    missing = [requirement for name, requirement in wanted.items() if there[name] is None]
    if not missing:
        return 0
    if installed_version("torch") is None:
        raise InstallError("PyTorch is missing; install it as pytorch.org says, then run this again")
    print(f"sigmagraft: installing {', '.join(missing)}")
    install_beside_installed(missing)
    return 0


def install_beside_installed(missing: list[str]) -> None:
    """Run pip bound to every version that is there, so that it fails rather than move one."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{line}\n" for line in everything_installed()), encoding="utf-8")
        command = pip_install("--constraint", str(constraints), *missing)
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InstallError(
            f"could not install {', '.join(missing)} beside what is there, so nothing was changed; "
            f"pip said: {reason_of(done)}"
        )


def reason_of(done: subprocess.CompletedProcess[str]) -> str:
    """The error a finished command names first, else the last line it wrote."""
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error:")]
    return (errors[:1] or lines[-1:] or ["nothing"])[0]


def requirements(file: Path) -> dict[str, str]:
    """The lines of a requirements file by project name."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0]: line for line in lines if line}


def installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def everything_installed() -> list[str]:
    """`name==version` of each project here; of two copies the one that Python imports."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        name, version = distribution.metadata["Name"], distribution.version
        if name and version:
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), version)
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def older(version: str, floor: str) -> bool:
    """Whether `version` lies below `floor`, by the numbers each begins with."""
    return numbers(version) < numbers(floor)


def numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version.partition("+")[0])]


def pip_install(*arguments: str) -> list[str]:
    """The command that installs into this Python: pip's, or uv's where an environment has no pip."""
    if find_spec("pip"):
        return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *arguments]
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", sys.executable, *arguments]
    raise InstallError(f"there is no pip; run `{sys.executable} -m ensurepip`, then this again")


# --- for a person, on a fresh machine


def install_and_run(arguments: list[str]) -> int:
    """Install the locked versions into the environment to use, then do there what was asked."""
    python = environment()
    if not same_file(python, sys.executable):
        return subprocess.call([str(python), str(Path(__file__).resolve()), *arguments])
    command, *rest = arguments
    install_locked(command)
    if command == "picture":
        return subprocess.call([sys.executable, str(ROOT / "standalone"), *rest])
    return run_tests(rest)


def run_tests(arguments: list[str]) -> int:
    """pytest with these arguments; without any, all tests, a process for each of up to four cores."""
    workers = str(min(4, os.cpu_count() or 1))
    everything = [str(ROOT / "tests"), "-n", workers, "--dist", "worksteal"]
    # each process computes on one core, or they would wait for each other
    alone = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "pytest", "-m", "", *(arguments or everything)]
    return subprocess.call(command, env=os.environ if arguments else alone)


def environment() -> Path:
    """The Python of the active virtual (or conda) environment, else of `.venv`, made where there is none."""
    in_conda = os.environ.get("CONDA_DEFAULT_ENV", "base") != "base"
    if sys.prefix != sys.base_prefix or (in_conda and sys.prefix == os.environ.get("CONDA_PREFIX")):
        return Path(sys.executable)
    inside = "Scripts/python.exe" if os.name == "nt" else "bin/python"
    active = Path(os.environ.get("VIRTUAL_ENV", OWN_ENVIRONMENT), inside)
    if active.exists():
        return active
    print(f"sigmagraft: making the virtual environment {OWN_ENVIRONMENT}", flush=True)
    make_environment(OWN_ENVIRONMENT)
    return OWN_ENVIRONMENT / inside


def make_environment(folder: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "venv", str(folder)], capture_output=True, text=True)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise InstallError(
            f"{sys.executable} cannot make a virtual environment with pip ({reason_of(done)}); "
            "on Debian and Ubuntu: sudo apt install python3-venv"
        )


def same_file(one: Path, other: str) -> bool:
    # not resolved: a virtual environment's python is a link to the one it was made from
    return os.path.normcase(os.path.abspath(one)) == os.path.normcase(os.path.abspath(other))


def install_locked(command: str) -> None:
    """Install the locks of `command`; a torch and a numpy that are already there stay."""
    kept = {name: version for name in KEPT if (version := installed_version(name))}
    if "torch" not in kept:
        install_cpu_torch()
        kept.update({"torch": version} if (version := installed_version("torch")) else {})
    elif older(kept["torch"], TORCH_FLOOR):
        raise InstallError(
            f"PyTorch {kept['torch']} in {sys.prefix} is older than {TORCH_FLOOR}; "
            "upgrade it, or leave that environment and run this again"
        )
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
        for lock in LOCKS[command]:
            locked = Path(folder, lock)
            locked.write_text("".join(f"{line}\n" for line in lock_lines(lock, set(kept))), encoding="utf-8")
            alone = ["--no-deps"] if lock.endswith("no-deps.txt") else ["--constraint", str(constraints)]
            if subprocess.call(pip_install("--requirement", str(locked), *alone)):
                raise InstallError(f"pip could not install locks/{lock}; its reason stands above")


def lock_lines(lock: str, without: set[str]) -> list[str]:
    """The pins of a lock and of those it builds on, leaving out the projects `without`."""
    lines: list[str] = []
    for line in (ROOT / "locks" / lock).read_text(encoding="utf-8").splitlines():
        if line.startswith("-r "):
            lines += lock_lines(line[3:].strip(), without)
        elif line.partition("==")[0] not in without:
            lines.append(line)
    return lines


def install_cpu_torch() -> None:
    """On Linux without an NVIDIA driver take PyTorch's CPU build: PyPI's brings gigabytes of CUDA."""
    if (
        not sys.platform.startswith("linux")
        or Path("/proc/driver/nvidia").exists()
        or shutil.which("nvidia-smi")
    ):
        return
    pins = [line for line in lock_lines("run.txt", set()) if line.startswith("torch==")]
    impatient = {**os.environ, "PIP_RETRIES": "1", "PIP_DEFAULT_TIMEOUT": "20"}
    if subprocess.call(pip_install("--index-url", CPU_WHEELS, "--no-deps", *pins), env=impatient):
        print(f"sigmagraft: {CPU_WHEELS} did not answer; taking PyTorch from pip's own index", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
