"""Make the environment of the book, or add to it, from a lock: `python3 .ci/install.py VENV LOCK`.

Nothing is resolved here. Every distribution is named by the lock with its hash and taken as it is (`--no-deps`), wheels only, so that
neither the version of pip nor what has been published since can change what is installed; at the end `pip check` says whether the set is
complete. uv does in seconds what pip does in a minute, so it is fetched first, by its own hash, into a folder that goes again. Where it
cannot be had or does not succeed (no wheel for the machine, an index that only pip is told of), pip does the same work.

The environment remembers the Python and the locks it was made from. When one of them is another, it is made anew.

    python3 .ci/install.py --lock            renew the locks, with a uv that does not come from the environment
    python3 .ci/install.py --stale VENV      must the environment be made anew for this Python? (exit status 0 if it must, 1 if not)
"""

import hashlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
UV_LOCK = HERE / "uv.lock"
RECORD = "environment.json"
LOCKS = (
    ("requirements.lock", "--extra", "agents", "--extra", "certificates", "--group", "dev", "pyproject.toml"),
    (
        "requirements-book.lock",
        "--extra",
        "agents",
        "--extra",
        "certificates",
        "--group",
        "book",
        "--constraint",
        "requirements.lock",
        "pyproject.toml",
    ),
    ("requirements-torch.lock", "--extra=sb3", "--extra=torch", "--group", "torch", "--constraint", "requirements.lock", "pyproject.toml"),
    (".ci/uv.lock", ".ci/uv.in"),
    ("tests/setup/oldest_pip.lock", "tests/setup/oldest_pip.in"),
    ("tests/setup/newest_pip.lock", "tests/setup/newest_pip.in"),
)
"""Each lock, and what uv is told to resolve for it; one that follows another comes after it."""
TERMINAL = sys.stderr.isatty()


class RefusalError(Exception):
    """Why the environment cannot be made, in a sentence for whoever asked for it."""


def check_machine() -> None:
    """Refuse a machine for which JAX has no wheels, before anything is fetched."""
    if sys.platform == "win32":
        raise RefusalError("The book needs make and a POSIX shell: on Windows run the same commands inside WSL (wsl --install).")
    if sys.platform == "darwin" and platform.machine() == "x86_64" and not is_translated():
        raise RefusalError(
            "JAX has no wheels for Macs with an Intel processor any more: run the same commands in a Linux container, "
            'such as `docker run -it -v "$PWD":/book -w /book python:3.11 make book`, or on another machine.'
        )
    if platform.libc_ver()[0] == "" and sys.platform == "linux":
        raise RefusalError(
            "JAX has no wheels for Linux without glibc (Alpine, for one): run the same commands on Debian, Ubuntu or Fedora."
        )


def is_translated() -> bool:
    """Whether an Intel Python runs on a Mac with an Apple processor; then the Python is what has to change, not the machine."""
    found = subprocess.run(["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"], capture_output=True, text=True, check=False)
    if found.stdout.strip() == "1":
        raise RefusalError("This Python is an Intel build under Rosetta: run make with PYTHON=/path/to/a/python3 built for Apple silicon.")
    return False


def python_of(folder: Path) -> Path:
    return folder / "bin" / "python"


def this_python() -> str:
    return f"{platform.python_implementation()} {platform.python_version()} in {Path(sys.base_prefix).resolve()}"


def read_record(folder: Path) -> dict:
    try:
        return json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def digest(lock: Path) -> str:
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def is_stale(folder: Path) -> bool:
    """Whether the environment is missing, broken, of another Python, or from a lock that has changed since."""
    record = read_record(folder)
    if record.get("python") != this_python():
        return True
    if any(not Path(lock).exists() or digest(Path(lock)) != known for lock, known in record.get("locks", {}).items()):
        return True
    try:
        return subprocess.run([python_of(folder), "-I", "-c", ""], capture_output=True, check=False).returncode != 0
    except OSError:
        return True


def run(command: list, *, mute: bool = False) -> bool:
    """Whether a command succeeds."""
    return subprocess.run([str(part) for part in command], stderr=subprocess.DEVNULL if mute else None, check=False).returncode == 0


def fetch_uv(python: Path, folder: str) -> Path:
    """Install uv by its hash into a folder, and return where it is; it is not there if it cannot be had."""
    options = ["--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    with open(os.devnull, "w", encoding="utf-8") as nowhere:
        subprocess.run(
            [str(python), "-m", "pip", "install", *options, "--target", folder, "-r", str(UV_LOCK)],
            stdout=nowhere,
            stderr=nowhere,
            check=False,
        )
    return Path(folder) / "bin" / "uv"


def install(folder: Path, lock: Path) -> None:
    """Add what a lock names to an environment, and check that nothing is missing in it."""
    python = python_of(folder)
    quiet = [] if TERMINAL else ["--quiet"]
    exactly = ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", lock]
    with tempfile.TemporaryDirectory() as away:
        uv = fetch_uv(python, away)
        # What uv says of a failure is shown to whoever looks on; pip will say it again if it is one.
        done = uv.exists() and run(
            [uv, "pip", "install", "--no-config", "--system-certs", *quiet, "--python", python, *exactly], mute=not TERMINAL
        )
    if not done:
        print("uv could not be had or did not succeed: pip installs, which takes a minute or two", file=sys.stderr)
        if not run([python, "-m", "pip", "install", *quiet, "--disable-pip-version-check", *exactly]):
            raise RefusalError(
                "The locked packages could not be installed (pip's reason is above). If it is a connection or the disk, run make again; "
                "if pip finds no wheel, this machine or Python is not one that the locked packages support."
            )
    check = subprocess.run([python, "-m", "pip", "--disable-pip-version-check", "check"], capture_output=True, text=True, check=False)
    if check.returncode:
        raise RefusalError(
            f"{lock.name} does not hold a complete set of packages: renew it with `make lock`.\n{check.stdout}{check.stderr}"
        )


def create(folder: Path) -> None:
    """Make an empty virtual environment, with the pip that comes with this Python."""
    if not importlib.util.find_spec("ensurepip"):
        raise RefusalError(
            f"'{sys.executable}' has no venv module: install it (on Debian and Ubuntu: apt-get install python3-venv) and run make again."
        )
    venv.create(folder, clear=True, symlinks=True, with_pip=True)


def prepare(folder: Path, lock: Path) -> None:
    """Bring an environment to hold what a lock names; nothing is done where it does already."""
    check_machine()
    if is_stale(folder):
        print(f"Making the environment in {folder} (once, in seconds or a minute)", file=sys.stderr)
        create(folder)
        record = {"python": this_python(), "locks": {}}
    else:
        record = read_record(folder)
    if str(lock) in record["locks"]:
        return
    install(folder, lock)
    record["locks"][str(lock)] = digest(lock)
    # Whole or not at all: a half-written record would be read as none, and the environment made anew.
    (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def renew_locks() -> None:
    """Resolve what pyproject.toml asks for into the locks, with hashes and without any host's name."""
    options = [
        "--quiet",
        "--no-config",
        "--system-certs",
        "--upgrade",
        "--universal",
        "--python-version",
        "3.11",
        "--generate-hashes",
        "--no-emit-index-url",
    ]
    # pip before 24.1 wants an extra that a package asks for to stand in the lock.
    options += ["--no-strip-extras", "--custom-compile-command", "make lock"]
    with tempfile.TemporaryDirectory() as away:
        create(Path(away) / "pip")
        uv = fetch_uv(python_of(Path(away) / "pip"), f"{away}/uv")
        if not uv.exists():
            raise RefusalError("uv could not be installed from .ci/uv.lock: check the network, then run make lock again.")
        for lock, *what in LOCKS:
            if not run([uv, "pip", "compile", *options, *what, "--output-file", lock]):
                raise RefusalError(f"{lock} could not be renewed (the reason is above).")


def main(arguments: list) -> int:
    try:
        if arguments[0] == "--lock":
            renew_locks()
        elif arguments[0] == "--stale":
            return 0 if is_stale(Path(arguments[1])) else 1
        else:
            prepare(Path(arguments[0]), Path(arguments[1]))
    except RefusalError as reason:
        print(reason, file=sys.stderr)
        return 1
    except OSError as reason:
        print(f"The environment could not be made: {reason}. Mend it, then run make again.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
