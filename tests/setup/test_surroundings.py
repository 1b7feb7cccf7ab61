"""What a machine happens to have must not reach a command: variables, cards, kernels, other copies of the package, a folder's name."""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

import nbformat
import pytest
from deadly_triad_book import execution

from .conftest import ROOT

SITE = Path(sysconfig.get_paths()["purelib"])
SHOW = f'include Makefile\nshown:\n\t@{Path(sys.prefix) / "bin" / "python"} -c "import json, os; print(json.dumps(dict(os.environ)))"\n'
# What the Makefile sets itself, and what make and Python add.
PINNED = set(re.findall(r"^export (\w+)", (ROOT / "Makefile").read_text(), re.MULTILINE)) | {
    "MAKEFLAGS",
    "MAKELEVEL",
    "MFLAGS",
    "LC_CTYPE",
    "PWD",
}


# What a reader may tell make, by name.
OURS = set(re.findall(r"^(\w+) \?=", (ROOT / "Makefile").read_text(), re.MULTILINE))


def kept() -> set[str]:
    (words,) = re.findall(r"^KEPT := ((?:.*\\\n)*.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return set(words.replace("\\\n", " ").split())


def variables_of_libraries() -> set[str]:
    """The environment variables that a library in this environment is seen to read."""
    found = subprocess.run(
        ["grep", "-rhoE", "--include=*.py", r"(environ(\.get|\.pop|\.setdefault)?|getenv)[[(]['\"][A-Za-z_0-9]+", str(SITE)],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    return set(re.findall(r"['\"](\w+)$", found, re.MULTILINE))


@pytest.fixture
def shown(make, tmp_path):
    """The environment that a command of the Makefile gets when make is given another one."""
    (tmp_path / "show.mk").write_text(SHOW)

    def show(environment):
        ran = make("-f", str(tmp_path / "show.mk"), "shown", environment=environment)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return show


def test_no_variable_that_a_library_reads_gets_through(shown, plain):
    names = variables_of_libraries()
    assert {"MPLBACKEND", "PYTEST_ADDOPTS", "JUPYTER_PATH", "MATPLOTLIBRC", "JAX_PLATFORMS"} <= names
    chosen = {name for name in names | {"ANY_NAME_AT_ALL", "PYTHONPATH", "PIP_TARGET", "UV_SYSTEM_PYTHON"} if not is_kept(name)} - OURS
    stamp = Path(sys.prefix) / ".reader"
    assert stamp.exists()
    result = shown(plain | dict.fromkeys(chosen, "hostile"))
    assert stamp.exists(), "nor is the environment taken for a broken one"
    assert not (ROOT / "hostile").exists()
    assert not [name for name, value in result.items() if value == "hostile"]
    assert {name for name in result if not is_kept(name)} - PINNED == set()


def is_kept(name):
    return any(name == word or (word.endswith("%") and name.startswith(word[:-1])) for word in kept())


def test_what_leads_to_a_package_index_and_a_repository_gets_through(shown, plain):
    wanted = {"HTTPS_PROXY": "http://proxy:1", "PIP_INDEX_URL": "http://mirror/", "SSL_CERT_FILE": "/c.pem", "GITHUB_REPOSITORY": "a/b"}
    assert wanted.items() <= shown(plain | wanted).items()


def test_there_is_a_home_without_one(shown, plain):
    assert "HOME" not in plain
    assert shown(plain)["HOME"] == f"{ROOT}/_build/home"


# --- a cell -----------------------------------------------------------------------------------------------------------

PRETEND_A_CARD = """
import os
there = os.path.exists
os.path.exists = lambda path: str(path) in ("/dev/nvidia0", "/dev/dxg") or there(path)
"""
COMPUTE = """
import sys, jax, jax.numpy as jnp, matplotlib.pyplot as plt, deadly_triad
from deadly_triad_book.style import use_book_style
use_book_style()
plt.plot([0, float(jnp.ones(3).sum())])
print(jax.default_backend(), jnp.ones(1).dtype, sys.prefix, deadly_triad.__file__, sep=chr(10))
"""


def run_cells(environment, folder, *cells):
    """What a notebook with these cells puts out, run as the chapters are, in that environment: stdout, stderr, kinds of data."""
    path = folder / "cells.ipynb"
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells], metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", folder, "-c", os.devnull]
    options = ["--nbmake", "--nbmake-kernel=python3", "--overwrite", path]
    ran = subprocess.run([*command, *options], env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    outputs = [output for cell in nbformat.read(path, as_version=4).cells for output in cell.outputs]
    streams = {"stdout": "", "stderr": ""}
    for output in outputs:
        if output.output_type == "stream":
            streams[output.name] += output.text
    return streams["stdout"], streams["stderr"], {kind for output in outputs for kind in output.get("data", {})}


@pytest.fixture
def hostile(tmp_path, plain):
    """A machine with settings, kernels and packages of its own in every place where a library of ours looks for them."""
    for folder in ("path/deadly_triad", "kernels/kernels/python3", "matplotlib", "config", "home/.ipython/profile_default/startup"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "path/deadly_triad/__init__.py").write_text("raise ImportError('an old copy')")
    (tmp_path / "path/sitecustomize.py").write_text("import sys; print('hello from elsewhere', file=sys.stderr)")
    spec = {"argv": ["false"], "display_name": "Python 3", "language": "python"}
    (tmp_path / "kernels/kernels/python3/kernel.json").write_text(json.dumps(spec))
    (tmp_path / "matplotlib/matplotlibrc").write_text("backend: TkAgg\nfigure.facecolor: red\nno.such.setting: 1\n")
    (tmp_path / "home/.ipython/profile_default/startup/start.py").write_text("import sys; print('hello', file=sys.stderr)")
    return plain | {
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(tmp_path / "path"), "PYTHONWARNINGS": "error", "PYTHONSTARTUP": str(tmp_path / "path/sitecustomize.py"),
        "JUPYTER_PATH": str(tmp_path / "kernels"), "JUPYTER_PREFER_ENV_PATH": "0", "JUPYTER_CONFIG_PATH": str(tmp_path / "config"),
        "IPYTHONDIR": str(tmp_path / "home/.ipython"),
        "MATPLOTLIBRC": str(tmp_path / "matplotlib"), "MPLCONFIGDIR": str(tmp_path / "matplotlib"), "MPLBACKEND": "TkAgg",
        "JAX_PLATFORMS": "cuda", "JAX_ENABLE_X64": "1", "JAX_DISABLE_JIT": "1", "JAX_LOG_COMPILES": "1", "XLA_FLAGS": "--xla_no_such_flag",
        "JAX_TRACEBACK_FILTERING": "nonsense", "JAX_COMPILATION_CACHE_DIR": "/nonexistent",
        "OMP_NUM_THREADS": "64", "LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8",
        "PYTEST_ADDOPTS": "--collect-only", "PYTEST_PLUGINS": "nowhere",
    }  # fmt: skip


def test_a_cell_does_not_see_a_hostile_machine(hostile, shown, tmp_path):
    said, complained, kinds = run_cells(shown(hostile), tmp_path, PRETEND_A_CARD, COMPUTE)
    assert complained == ""
    backend, dtype, prefix, package = said.split("\n")[:4]
    assert (backend, dtype, prefix) == ("cpu", "float32", sys.prefix)
    assert Path(package).is_relative_to(ROOT / "lib")
    assert "image/svg+xml" in kinds


def test_a_card_would_be_heard_of_without_the_makefile(shown, plain, tmp_path):
    """The negative control: the pretended card does what a real one does."""
    environment = {name: value for name, value in shown(plain).items() if name != "JAX_PLATFORMS"}
    _, complained, _ = run_cells(environment, tmp_path, PRETEND_A_CARD, COMPUTE)
    assert "GPU" in complained


# --- notebooks that fail, and then do not ----------------------------------------------------------------------------


@pytest.fixture
def book():
    """A book of one page and one chapter, whose cell is given."""

    def write(folder, source):
        (folder / "chapters").mkdir(parents=True, exist_ok=True)
        for name in execution.LINKED:
            (folder / name).mkdir(exist_ok=True)
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_markdown_cell("# A chapter"), nbformat.v4.new_code_cell(source)], metadata={"kernelspec": kernel}
        )
        nbformat.write(notebook, folder / "chapters" / "01_one.ipynb")
        (folder / "intro.md").write_text("# A book\n\nWithout code.\n")
        parts = "format: jb-book\nroot: intro\nparts:\n  - caption: One\n    chapters:\n      - file: chapters/01_one\n"
        (folder / "_toc.yml").write_text(parts)
        return folder

    return write


def test_a_failed_notebook_shows_its_text_and_does_not_fail_from_the_cache(tmp_path, book):
    wanted, runs = tmp_path / "wanted", tmp_path / "runs"
    cell = f"open({str(runs)!r}, 'a').write('x')  # and new.csv, it says\n"
    cell += f"assert __import__('pathlib').Path({str(wanted)!r}).exists(), 'the telling words'"
    folder = book(tmp_path / "book", cell)
    (failure,) = execution.execute(folder, 1)
    assert "01_one.ipynb did not run to its end" in failure
    assert "the telling words" in failure
    wanted.touch()
    assert execution.execute(folder, 1) == []
    assert execution.execute(folder, 1) == []
    assert runs.read_text() == "xx", "what is in the cache is not run again"
    results = folder / "experiments" / "results"
    results.mkdir()
    (results / "other.csv").write_text("1")
    assert execution.execute(folder, 1) == []
    assert runs.read_text() == "xx", "it does not compute with that"
    (results / "new.csv").write_text("1")
    assert execution.execute(folder, 1) == []
    assert runs.read_text() == "xxx", "what it computes with has changed"


@pytest.mark.parametrize(
    ("code", "among", "not_among"),
    [
        (
            "from deadly_triad.ntk import gram",
            {"ntk.py", "networks.py", "_checks.py"},
            {"preqn.py", "diagnosis.py", "new.csv", "execution.py"},
        ),
        ("def later():\n    from deadly_triad.preqn import step", {"preqn.py", "ntk.py"}, {"training.py"}),
        ("from deadly_triad import stability", {"stability.py"}, {"ntk.py"}),
        ("from deadly_triad import diagnose", {"diagnosis.py", "training.py"}, set()),
        ("import deadly_triad as dt", {"diagnosis.py", "training.py"}, set()),
        ("def f():\n    import math, deadly_triad", {"diagnosis.py", "training.py"}, set()),
        ("%time no_python()", {"diagnosis.py", "training.py"}, set()),
        ("from deadly_triad.adapters import from_function", {"diagnosis.py", "training.py"}, set()),
        ("x = table('kernel_study.npz')", {"kernel_study.npz", "kernel_study.json"}, {"kernel_training.csv", "stability.py"}),
        ("all = folder.glob('*.csv')", {"kernel_study.npz", "bench.json"}, {"stability.py"}),
    ],
)
def test_what_a_notebook_computes_with_is_found(code, among, not_among):
    found = {path.name for path in execution.computed_with(ROOT, code)}
    assert among | {execution.LOCK} <= found
    assert not not_among & found


def test_a_code_that_comes_back_is_run_again_if_something_has_changed_meanwhile(tmp_path, book):
    runs = tmp_path / "runs"
    cell = f"open({str(runs)!r}, 'a').write('x')  # reads new.csv"
    folder = book(tmp_path / "book", cell)
    assert execution.execute(folder, 1) == []
    book(folder, "x = 1  # reads new.csv")
    results = folder / "experiments" / "results"
    results.mkdir()
    (results / "new.csv").write_text("1")
    assert execution.execute(folder, 1) == []
    book(folder, cell)
    assert execution.execute(folder, 1) == []
    assert runs.read_text() == "xx"


def test_a_cell_that_is_no_python_is_told_of_in_its_own_words(tmp_path, book):
    (failure,) = execution.execute(book(tmp_path / "book", "x = = 1"), 1)
    assert "SyntaxError" in failure
    assert "01_one.ipynb" in failure


def test_a_mark_that_was_cut_off_is_written_anew(tmp_path, book):
    folder = book(tmp_path / "book", "x = 1")
    assert execution.execute(folder, 1) == []
    (folder / "_build" / ".jupyter_cache.made-with.json").write_text('{"half')
    assert execution.execute(folder, 1) == []


def test_a_word_on_stderr_fails_and_is_shown(tmp_path, book):
    folder = book(tmp_path, "import sys\nprint('a hint', file=sys.stderr)")
    (failure,) = execution.execute(folder, 1)
    assert "'import sys' wrote to stderr:\na hint" in failure
    with execution.fresh_cache(folder) as cache:
        assert not execution.is_cached(cache, execution.read_source(folder / "chapters" / "01_one.ipynb"))


# --- folders ----------------------------------------------------------------------------------------------------------

# The environment that runs this test stands in for the folder's own, as made and up to date.
READY_MADE = [word for name in (".reader", ".developer", ".installed") for word in ("-o", f".venv/{name}")]


@pytest.mark.parametrize("name", ["a book (ü), c++ & co's #1"])
def test_the_book_is_built_in_an_odd_folder(tmp_path, plain, make, checkout, book, name):
    folder = checkout(tmp_path / name)
    results = folder / "experiments" / "results"
    for others in (folder / "chapters", results):
        shutil.rmtree(others)
    results.mkdir()
    book(folder, "print('made in an odd folder')")
    (folder / ".venv").symlink_to(sys.prefix)
    ran = make(*READY_MADE, "book", folder=folder, environment=plain)
    assert ran.returncode == 0, ran.stderr
    address = re.search(r"Open (file://\S+)", ran.stdout)
    assert address
    assert address[1] == (folder / "_build" / "html" / "index.html").as_uri()
    assert "made in an odd folder" in (folder / "_build" / "html" / "chapters" / "01_one.html").read_text()
    again = make(*READY_MADE, "--question", "_build/.book", folder=folder, environment=plain)
    assert again.returncode == 0, "nothing is left to do"


def test_a_read_only_checkout_is_one_sentence(plain, make, checkout):
    with tempfile.TemporaryDirectory() as temporary:
        folder = checkout(Path(temporary) / "book")
        for path in (Path(temporary), *folder.rglob("*"), folder):
            path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH) | stat.S_IRGRP | stat.S_IROTH | stat.S_IXOTH)
        # To root no folder is read-only.
        ran = make("book", folder=folder, environment=plain, **({"user": "nobody"} if os.getuid() == 0 else {}))
        Path(temporary).chmod(0o700)
        folder.chmod(0o700)
        for path in folder.rglob("*"):
            path.chmod(0o700)
    assert ran.returncode
    assert "This folder cannot be written to" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert len(ran.stderr.strip().splitlines()) <= 2


@pytest.mark.parametrize(("python", "sentence"), [("no-such-python", "is missing"), ("{old}", "needs Python 3.11 or later")])
def test_a_wrong_python_is_one_sentence(tmp_path, plain, make, checkout, python, sentence):
    old = tmp_path / "python3.10"
    old.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.10.13;; *) exit 1;; esac\n")
    old.chmod(0o755)
    ran = make("book", f"PYTHON={python.format(old=old)}", folder=checkout(tmp_path / "book"), environment=plain)
    assert ran.returncode
    assert sentence in ran.stderr
    assert "run make with PYTHON=" in ran.stderr


# --- the package alone -----------------------------------------------------------------------------------------------


def test_a_wheel_of_the_package_works_with_what_it_declares_and_no_more(tmp_path, checkout):
    """Built, installed beside nothing but its declared dependencies, and used as the README says."""
    source, target, declared = checkout(tmp_path / "source"), tmp_path / "target", tmp_path / "declared"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("deadly_triad-*.whl")
    results = {path.name for path in (ROOT / "experiments" / "results").glob("*.*")}
    with zipfile.ZipFile(wheel) as opened:
        assert results == {Path(name).name for name in opened.namelist() if name.startswith("deadly_triad_book/results/")}
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    declared.mkdir()
    for name in ("numpy", "scipy", "jax", "jaxlib", "jaxtyping", "ml_dtypes", "opt_einsum", "wadler_lindig"):
        for path in (*SITE.glob(name), *SITE.glob(f"{name}.libs"), *SITE.glob(f"{name}-*.dist-info")):
            (declared / path.name).symlink_to(path)
    readme = (ROOT / "README.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert examples
    code = (
        f"import sys; sys.path[:0] = [{str(target)!r}, {str(declared)!r}]\n"
        + "\n".join(examples)
        + "\nimport deadly_triad, deadly_triad_book\nassert list(deadly_triad_book.RESULTS.glob('*.csv'))\nprint(deadly_triad.__file__)"
    )
    alone = {"PATH": os.environ["PATH"], "JAX_PLATFORMS": "cpu"}
    # Neither the environment's packages nor the checkout's.
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1].startswith(str(target))
