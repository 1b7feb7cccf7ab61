"""What the tests of the book share: its sources, the notebooks as they ran in the last build, and a browser that cannot reach the network.

They read `_build`, so they run after `make book`; `make pages` sees to that.
"""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nbformat
import pytest
from deadly_triad_book.execution import cache_in, read_source
from deadly_triad_book.execution import pages as contents
from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
HTML = ROOT / "_build" / "html"


@dataclass(frozen=True)
class Source:
    """A page of the book as it is written: a notebook, or Markdown read as one."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @cached_property
    def notebook(self) -> nbformat.NotebookNode:
        return read_source(self.path)

    @property
    def code(self) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def prose(self) -> list[nbformat.NotebookNode]:
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @cached_property
    def executed(self) -> nbformat.NotebookNode:
        """The same notebook with the outputs of the last build, out of Jupyter Book's own cache."""
        if not self.code:
            return self.notebook
        with cache_in(ROOT / "_build" / ".jupyter_cache") as cache:
            return cache.merge_match_into_notebook(self.notebook)[1]


CHAPTERS = [Source(path) for path in sorted((ROOT / "chapters").glob("*.ipynb"))]
PAGES = [Source(ROOT / "intro.md"), *CHAPTERS, *(Source(path) for path in sorted((ROOT / "appendices").glob("*.md")))]
# index.html only sends the reader on to the first page; _static holds pieces of pages.
BUILT = sorted(path for path in HTML.rglob("*.html") if path.name != "index.html" and "_static" not in path.parts)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for a `chapter` (a notebook) or a `source` (any page) once for each."""
    for fixture, values in (("chapter", CHAPTERS), ("source", PAGES)):
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, values, ids=lambda value: value.name)
    if "built" in metafunc.fixturenames:
        metafunc.parametrize("built", BUILT, ids=lambda path: path.relative_to(HTML).as_posix(), scope="module")


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def html() -> Path:
    return HTML


@pytest.fixture(scope="session")
def chapters() -> list[Source]:
    return CHAPTERS


@pytest.fixture(scope="session")
def pages() -> list[Source]:
    return PAGES


@pytest.fixture(scope="session")
def toc() -> list[str]:
    """The pages that the table of contents names, without suffix, the first page first."""
    return [path.relative_to(ROOT).with_suffix("").as_posix() for path in contents(ROOT)]


@pytest.fixture(scope="session")
def labels() -> dict[str, str]:
    """Every label of the book with the page that defines it: sections, equations, directives, figures."""
    patterns = (r"^\(([\w:.-]+)\)=\s*$", r"^\s*:(?:label|name):\s*(\S+)\s*$", r"\$\$\s*\(([\w:.-]+)\)")
    found = {}
    for page in PAGES:
        for cell in page.prose:
            found |= {label: page.name for pattern in patterns for label in re.findall(pattern, cell.source, re.MULTILINE)}
        for cell in page.code:
            if name := cell.metadata.get("mystnb", {}).get("figure", {}).get("name"):
                found[name] = page.name
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    candidates = (os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
    executable = next(filter(None, candidates), None)
    assert executable, "no Chromium here: see `make chromium`"
    with sync_playwright() as playwright:
        # No sandbox, because containers (and root) have none to give; no updates, because nothing may reach the network.
        arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()
