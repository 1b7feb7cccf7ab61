"""Run the notebooks of the book, several at a time, each once: `python -m deadly_triad_book.execution` in the book's folder.

nbmake runs copies in a folder of their own; what came out goes into the cache from which Jupyter Book takes its outputs, so that a build
and the tests share one execution. The cache knows the code cells alone. So a notebook leaves it when anything else has changed that it
computes with: modules of the package, the locked environment, committed results that it names. Only what ran to its end without a word on
stderr is kept: a failure shows its cell and its text, and is tried again the next time, whatever it was that failed.
"""

import ast
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import nbformat
import pytest
import yaml  # type: ignore[import-untyped]
from jupyter_cache import get_cache  # type: ignore[import-untyped]
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract  # type: ignore[import-untyped]
from myst_nb.core.read import is_myst_markdown_notebook, read_myst_markdown_notebook  # type: ignore[import-untyped]
from tqdm import tqdm  # type: ignore[import-untyped]

OURS = ("deadly_triad", "deadly_triad_book")
RESULTS = ("experiments/results/*.*", "benchmarks/results/*.*")
LOCK = "requirements-book.lock"
LINKED = ("experiments", "benchmarks")
"""Folders that a chapter reads by a path relative to its own."""


def read_source(path: Path) -> nbformat.NotebookNode:
    """A page of the book as a notebook, whether it is written as one or as Markdown; without code cells if it has none."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, as_version=nbformat.NO_CONVERT)  # type: ignore[no-untyped-call]
    text = path.read_text(encoding="utf-8")
    if is_myst_markdown_notebook(text):
        return read_myst_markdown_notebook(text, add_source_map=True, path=path)
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])  # type: ignore[no-untyped-call]


def pages(root: Path) -> list[Path]:
    """The sources of all pages that the table of contents names, the first page first."""
    contents = yaml.safe_load((root / "_toc.yml").read_text(encoding="utf-8"))
    names = [contents["root"], *(chapter["file"] for part in contents["parts"] for chapter in part["chapters"])]
    return [next(path for suffix in (".ipynb", ".md") if (path := root / f"{name}{suffix}").exists()) for name in names]


def imported(code: str) -> set[str]:
    r"""The modules of ours that a text imports, in functions too, with the packages that they are in.

    A `*` is among them where it may be any: the package is imported as a whole, or the text is no plain Python.

    >>> sorted(imported("import numpy\nfrom deadly_triad.ntk import gram"))
    ['deadly_triad', 'deadly_triad.ntk', 'deadly_triad.ntk.gram']
    """
    found: set[str] = set()
    try:
        todo: list[ast.AST] = [ast.parse(code)]
    except SyntaxError:
        return {"deadly_triad.*"}
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            found |= {name.name if "." in name.name else f"{name.name}.*" for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{name.name}" for name in node.names}
    parts = [name.split(".") for name in found]
    return {".".join(part[:i]) for part in parts if part[0] in OURS for i in range(1, len(part) + 1)}


def computed_with(root: Path, code: str) -> list[Path]:
    """What the outputs of a notebook depend on besides its cells: modules of ours, results that it names, the locked environment.

    Whoever imports a package as a whole, a name of its face, or a module by a name that is made up while it runs, may use all of it;
    whoever looks a folder through may read all results.
    """
    modules = {".".join(path.relative_to(root / "lib").with_suffix("").parts): path for path in sorted(root.glob("lib/**/*.py"))}
    modules = {name.removesuffix(".__init__"): path for name, path in modules.items()}
    todo = imported(code)
    seen: set[str] = set()
    while todo - seen:
        name = (todo - seen).pop()
        seen.add(name)
        if name not in modules and re.fullmatch(r"deadly_triad\.(\w+|\*)", name):
            todo |= set(modules)  # a name of the face, which finds its module when it is asked for, or the whole
        elif name in modules:
            text = modules[name].read_text(encoding="utf-8")
            todo |= set(modules) if "import_module(" in text and name not in OURS else imported(text)
    results = [path for pattern in RESULTS for path in root.glob(pattern) if path.stem in code or "glob(" in code]
    return sorted([*(modules[name] for name in seen if name in modules), *results, *root.glob(LOCK)])


def fingerprint(root: Path, code: str) -> str:
    """One number for all that a notebook with this code computes with besides."""
    found = hashlib.sha256()
    for path in computed_with(root, code):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode() + path.read_bytes())
    return found.hexdigest()


@contextlib.contextmanager
def cache_in(folder: Path | str) -> Iterator[JupyterCacheAbstract]:
    """The cache in a folder; its database is closed at the end, which it doesn't see to itself."""
    cache = get_cache(folder)
    try:
        yield cache
    finally:
        cache.db.dispose()


@contextlib.contextmanager
def fresh_cache(root: Path) -> Iterator[JupyterCacheAbstract]:
    """The cache of outputs, without those that were computed with other modules, another environment or other results.

    Beside the cache stands what each code in it was computed with, also a code that no notebook has any more: it may come back.
    """
    folder, marks = root / "_build" / ".jupyter_cache", root / "_build" / ".jupyter_cache.made-with.json"
    folder.parent.mkdir(exist_ok=True)
    try:
        made_with = json.loads(marks.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):  # none yet, or cut off while it was written
        made_with = {}
        shutil.rmtree(folder, ignore_errors=True)
    with cache_in(folder) as cache:
        for notebook in map(read_source, pages(root)):
            code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
            name, now = hashlib.sha256(code.encode()).hexdigest(), fingerprint(root, code)
            if made_with.get(name) != now and is_cached(cache, notebook):
                cache.remove_cache(cache.match_cache_notebook(notebook).pk)
            made_with[name] = now
        marks.write_text(json.dumps(made_with, indent=1), encoding="utf-8")
        yield cache


def with_outputs(source: nbformat.NotebookNode, executed: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A notebook with the outputs of its executed copy and nothing else of it: the cache looks at what a client adds to cells, too."""
    source.metadata["language_info"] = executed.metadata["language_info"]
    for cell, ran in zip(source.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
    return source


def said_on_stderr(notebook: nbformat.NotebookNode) -> str:
    """What the cells of an executed notebook wrote to stderr, each with the first line of the cell; empty if nothing."""
    return "".join(
        f"The cell that begins with {cell.source.strip().splitlines()[0]!r} wrote to stderr:\n{output.text}"
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stderr"
    )


class Keeper:
    """A plugin of pytest: shows which notebooks are running, and keeps in the cache what each has put out."""

    def __init__(self, cache: JupyterCacheAbstract, sources: dict[str, Path], folder: Path) -> None:
        self.cache, self.sources, self.folder = cache, sources, folder
        self.running: list[str] = []
        self.failures: list[str] = []
        self.bar = tqdm(total=len(sources), desc="Running the notebooks", unit="notebook", disable=None)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Show that a notebook begins."""
        self.running.append(nodeid.split("::")[0])
        self.bar.set_postfix_str(", ".join(self.running))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep what a notebook put out, or why it did not end."""
        name = report.nodeid.split("::")[0]
        if report.failed:
            self.failures.append(f"{self.sources[name].name} did not run to its end:\n{report.longreprtext}")
        elif report.when == "call":
            notebook = with_outputs(read_source(self.sources[name]), read_source(self.folder / name))
            if said := said_on_stderr(notebook):
                self.failures.append(f"{self.sources[name].name} has a fault, or prints where it should not:\n{said}")
            else:
                bundle = CacheBundleIn(notebook, str(self.sources[name]), data={"execution_seconds": report.duration})
                self.cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
        if report.when == "teardown":
            self.running.remove(name)
            self.bar.set_postfix_str(", ".join(self.running))
            self.bar.update()


def is_cached(cache: JupyterCacheAbstract, notebook: nbformat.NotebookNode) -> bool:
    """Whether the outputs of these code cells are at hand."""
    try:
        cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    return True


def execute(root: Path, workers: int, sources: Iterable[Path] | None = None) -> list[str]:
    """Run the notebooks whose outputs are not at hand.

    Args:
        root: the book's folder.
        workers: how many at a time.
        sources: the notebooks, by default all pages with code.

    Returns:
        What failed, a text each; empty if everything is in the cache now.
    """
    todo = {}
    # Not under _build: nbmake takes everything there for Jupyter Book's own copies and leaves it alone.
    with fresh_cache(root) as cache, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary).resolve()
        for path in pages(root) if sources is None else sources:
            notebook = read_source(path)
            if any(cell.cell_type == "code" for cell in notebook.cells) and not is_cached(cache, notebook):
                copy = folder / path.relative_to(root).with_suffix(".ipynb")
                copy.parent.mkdir(exist_ok=True)
                nbformat.write(notebook, copy)  # type: ignore[no-untyped-call]
                todo[copy.relative_to(folder).as_posix()] = path
        if not todo:
            return []
        for name in LINKED:
            (folder / name).symlink_to(root / name)
        return run(Keeper(cache, todo, folder), workers)


def run(keeper: Keeper, workers: int) -> list[str]:
    """Run the copies that a keeper knows, and return what failed."""
    # Settings of its own, so that none of the tests' applies here.
    (keeper.folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    # The longest first, as far as length says it: then no worker ends alone with one.
    copies = sorted((keeper.folder / name for name in keeper.sources), key=lambda copy: -copy.stat().st_size)
    options = ["--nbmake", "--nbmake-kernel=python3", "--nbmake-timeout=600", "--overwrite", "--capture=no", "-p", "no:cacheprovider"]
    # For one notebook, a worker beside this process would only take time to start.
    parallel = ["-n", str(min(workers, len(copies)) if len(copies) > 1 else 0), "--dist", "worksteal", f"--rootdir={keeper.folder}"]
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        status = pytest.main([*options, *parallel, *map(str, copies)], plugins=[keeper])
    keeper.bar.close()
    if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        keeper.failures.append(f"The run of the notebooks was cut off (pytest's exit status {int(status)}): run it again.")
    return keeper.failures


def main(arguments: Sequence[str]) -> int:
    """Run what is to be run, and print what failed."""
    failures = execute(
        Path.cwd(), workers=int(os.environ.get("WORKERS", "2")), sources=[Path(name).resolve() for name in arguments] or None
    )
    for failure in failures:
        # Tracebacks come in colour.
        print(failure if sys.stderr.isatty() else re.sub(r"\x1b\[[0-9;]*m", "", failure), file=sys.stderr)  # noqa: T201
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
