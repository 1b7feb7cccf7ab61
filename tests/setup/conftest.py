"""What the tests of the set-up share: the project's folder, its install step as a module, make, and copies of the checkout."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
WHEELS = Path(sys.prefix) / "wheels"  # pips of two ages and uv, which `make` puts there: nothing here needs a network


@pytest.fixture
def root() -> Path:
    return ROOT


def install_step() -> ModuleType:
    """The install step as a module, made anew each time."""
    spec = importlib.util.spec_from_file_location("install", ROOT / ".ci" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def install() -> ModuleType:
    return install_step()


@pytest.fixture
def make() -> Callable[..., subprocess.CompletedProcess]:
    """Run make with exactly the environment that is given."""

    def run(*arguments: str, folder: Path = ROOT, environment: dict[str, str], **more) -> subprocess.CompletedProcess:
        command = [shutil.which("make"), "--silent", *arguments]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False, **more)

    return run


@pytest.fixture
def plain() -> dict[str, str]:
    """The least environment in which make runs."""
    return {"PATH": os.environ["PATH"]}


@pytest.fixture
def checkout() -> Callable[[Path], Path]:
    """Copy what git tracks, and what it would, into a folder, with the times of the files."""

    def copy(folder: Path) -> Path:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        return folder

    return copy
