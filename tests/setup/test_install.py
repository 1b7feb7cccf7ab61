"""The install step on an index of made wheels, with the oldest and the newest pip that the README promises, and with uv. No network."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from .conftest import ROOT, WHEELS, install_step

ODD = "a book (ü), c++ & co"
LOCKS = ("requirements.lock", "requirements-book.lock")


def make_wheel(index: Path, name: str, version: str, *metadata: str) -> str:
    """Write a wheel with one module; return its line in a lock, without a marker."""
    record, path = f"{name}-{version}.dist-info", index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", f"version = {version!r}\n")
        wheel.writestr(f"{record}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, ""]))
        wheel.writestr(f"{record}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        files = [f"{name}.py", *(f"{record}/{file}" for file in ("METADATA", "WHEEL", "RECORD"))]
        wheel.writestr(f"{record}/RECORD", "".join(f"{file},,\n" for file in files))
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.fixture
def index(tmp_path):
    """Wheels of a package that asks for another with an extra, of which a newer release is out than the lock knows."""
    folder = tmp_path / "index"
    folder.mkdir()
    return folder


@pytest.fixture
def lock(tmp_path, index):
    lines = [
        make_wheel(index, "reports", "1.0", "Requires-Dist: coverer[toml] >=1.0"),
        make_wheel(index, "coverer", "1.0", "Provides-Extra: toml", "Requires-Dist: reader ; (python_version < '3') and extra == 'toml'"),
    ]
    make_wheel(index, "coverer", "2.0", "Provides-Extra: toml")
    path = tmp_path / "some.lock"
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def empty_environment(tmp_path_factory):
    """An environment as the install step makes it, to be copied: making one takes seconds."""
    folder = tmp_path_factory.mktemp("empty") / ".venv"
    install_step().create(folder)
    return folder


@pytest.fixture(params=["oldest_pip", "newest_pip", "uv"])
def installer(request, monkeypatch, install, index, empty_environment):
    """Let environments come with a pip of that age, or uv be at hand; nothing is found but the wheels of the index."""
    links = f"{index} {WHEELS / 'uv'}" if request.param == "uv" else str(index)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links, "UV_NO_INDEX": "1", "UV_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)

    def create_with(folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(empty_environment, folder, symlinks=True)
        if request.param != "uv":
            (wheel,) = (WHEELS / request.param).glob("pip-*.whl")
            pip = [install.python_of(folder), f"{wheel}/pip", "install", "-qq", "--no-deps", "--no-index", "--force-reinstall", wheel]
            subprocess.run(pip, check=True)

    monkeypatch.setattr(install, "create", create_with)
    return request.param


def installed(folder: Path) -> dict[str, str]:
    code = "import importlib.metadata as m, json; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    return json.loads(subprocess.run([folder / "bin" / "python", "-c", code], capture_output=True, text=True, check=True).stdout)


def test_a_lock_installs_whatever_has_been_published_since(tmp_path, install, installer, lock, capfd):
    environment = tmp_path / ODD / ".venv"
    assert install.main([str(environment), str(lock)]) == 0, capfd.readouterr().err
    found = installed(environment)
    assert (found["reports"], found["coverer"]) == ("1.0", "1.0")
    said = capfd.readouterr().err
    assert ("pip installs" in said) == (installer != "uv")
    assert not install.is_stale(environment)
    if installer != "uv":
        (wheel,) = (WHEELS / installer).glob("pip-*.whl")
        assert found["pip"] == wheel.name.split("-")[1]
    if installer == "oldest_pip":
        # What the step is there for: pip's own resolver takes the newer release for the extra, and finds no hash for it.
        old_way = [environment / "bin" / "python", "-m", "pip", "install", "--force-reinstall", "--require-hashes", "-r", lock]
        refused = subprocess.run(old_way, capture_output=True, text=True, check=False)
        modern = tuple(map(int, found["pip"].split(".")[:2])) >= (24, 1)
        assert modern or (refused.returncode and "coverer[toml]" in refused.stderr)


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("installer", ["oldest_pip"], indirect=True)
def test_a_lock_that_misses_a_package_is_said_to(tmp_path, install, lock, capfd):
    lock.write_text("".join(line for line in lock.read_text().splitlines(keepends=True) if line.startswith("reports")))
    assert install.main([str(tmp_path / "e"), str(lock)]) == 1
    said = capfd.readouterr().err
    assert "some.lock does not hold a complete set of packages" in said
    assert "coverer" in said
    assert install.is_stale(tmp_path / "e")


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("installer", ["uv"], indirect=True)
def test_a_package_that_is_not_the_locked_one_is_refused(tmp_path, install, lock, capfd):
    lock.write_text(re.sub(r"sha256:\w{4}", "sha256:0000", lock.read_text()))
    assert install.main([str(tmp_path / "e"), str(lock)]) == 1
    assert "The locked packages could not be installed" in capfd.readouterr().err
    assert install.is_stale(tmp_path / "e")


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("installer", ["uv"], indirect=True)
def test_the_environment_is_made_anew_when_what_made_it_has_changed(tmp_path, install, lock, index):
    environment = tmp_path / "e"
    assert install.main([str(environment), str(lock)]) == 0
    mark = environment / "mark"
    mark.touch()
    more = tmp_path / "more.lock"
    more.write_text(lock.read_text() + make_wheel(index, "checker", "1.0"))
    assert install.main([str(environment), str(more)]) == 0
    assert mark.exists(), "a second lock adds to the environment"
    assert "checker" in installed(environment)
    assert install.main(["--stale", str(environment)]) == 1
    lock.write_text(lock.read_text() + "# renewed\n")
    assert install.main(["--stale", str(environment)]) == 0
    assert install.main([str(environment), str(lock)]) == 0
    assert not mark.exists()
    assert "checker" not in installed(environment)


def test_an_environment_of_another_or_a_broken_python_is_stale(tmp_path, install, monkeypatch):
    environment = tmp_path / "e"
    assert install.is_stale(environment)
    venv.create(environment, symlinks=True)
    assert install.is_stale(environment), "an install that was cut off leaves no record"
    (environment / install.RECORD).write_text(json.dumps({"python": install.this_python(), "locks": {}}))
    assert not install.is_stale(environment)
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to(tmp_path / "uninstalled")
    assert install.is_stale(environment)
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to(sys.executable)
    monkeypatch.setattr(install, "this_python", lambda: "CPython 3.99.0 in /usr")
    assert install.is_stale(environment)


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("installer", ["uv"], indirect=True)
def test_an_interrupt_leaves_an_environment_that_is_made_anew(tmp_path, install, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(install, "install", interrupt)
    assert install.main([str(tmp_path / "e"), "requirements.lock"]) == 130
    assert install.is_stale(tmp_path / "e")


@pytest.mark.parametrize(
    ("platform", "machine", "libc", "sentence"),
    [
        ("win32", "AMD64", "", "inside WSL"),
        ("darwin", "x86_64", "", "no wheels for Macs with an Intel processor"),
        ("linux", "x86_64", "", "no wheels for Linux without glibc"),
    ],
)
def test_a_machine_that_jax_does_not_run_on_is_told_what_to_do(tmp_path, install, monkeypatch, capsys, platform, machine, libc, sentence):
    monkeypatch.setattr(install.sys, "platform", platform)
    monkeypatch.setattr(install.platform, "machine", lambda: machine)
    monkeypatch.setattr(install.platform, "libc_ver", lambda: (libc, ""))
    monkeypatch.setattr(install, "is_translated", lambda: False)
    assert install.main([str(tmp_path / "e"), "some.lock"]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "e").exists()


def test_a_python_without_venv_and_a_full_disk_are_one_sentence(tmp_path, install, monkeypatch, capsys):
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda _: None)
    assert install.main([str(tmp_path / "e"), "some.lock"]) == 1
    assert "apt-get install python3-venv" in capsys.readouterr().err

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(install, "create", fail)
    assert install.main([str(tmp_path / "e"), "some.lock"]) == 1
    assert "No space left on device" in capsys.readouterr().err


@pytest.mark.usefixtures("installer")
@pytest.mark.parametrize("installer", ["uv"], indirect=True)
def test_locks_are_renewed_although_the_environment_is_broken(tmp_path, install, monkeypatch, index):
    make_wheel(index, "coverer", "1.0", "Provides-Extra: toml")
    make_wheel(index, "reports", "1.0", "Requires-Dist: coverer[toml] >=1.0")
    (tmp_path / ".venv").write_text("not an environment")
    (tmp_path / "some.in").write_text("reports\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(install, "LOCKS", [("some.lock", "some.in")])
    assert install.main(["--lock"]) == 0
    renewed = (tmp_path / "some.lock").read_text()
    assert "coverer[toml]==1.0" in renewed, "for those who type pip by hand, with a pip before 24.1"
    assert str(index) not in renewed


# --- the locks themselves --------------------------------------------------------------------------------------------


def pins(name: str) -> dict[str, set[str]]:
    """The versions of each package, with their markers."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)(?:\[[^\]]*\])?==([\w.]+)", (ROOT / name).read_text(), re.MULTILINE):
        found.setdefault(package, set()).add(version)
    return found


def test_the_lock_of_the_book_is_a_part_of_the_whole_one():
    whole, book = pins("requirements.lock"), pins("requirements-book.lock")
    assert book.keys() < whole.keys()
    assert book == {package: whole[package] for package in book}


@pytest.mark.parametrize("name", [*LOCKS, ".ci/uv.lock", "tests/setup/oldest_pip.lock", "tests/setup/newest_pip.lock"])
def test_a_lock_names_no_host_and_hashes_everything(name):
    text = (ROOT / name).read_text()
    assert not re.findall(r"://|--find-links|@ ", text)
    entries = re.split(r"^(?=[\w.-]+(?:\[|==))", text, flags=re.MULTILINE)[1:]
    assert entries
    assert all("--hash=sha256:" in entry for entry in entries)


def test_the_reader_is_spared_the_checkers():
    spared = {"mypy", "ruff", "playwright", "hypothesis", "jupyterlab", "flax", "uv", "cvxpy", "mujoco", "distributed", "bokeh"}
    assert not spared & pins("requirements-book.lock").keys()


def test_the_wheels_of_these_tests_are_the_promised_ones():
    assert {folder.name for folder in WHEELS.iterdir()} == {"oldest_pip", "newest_pip", "uv"}
