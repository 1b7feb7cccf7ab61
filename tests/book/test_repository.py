"""The extension that links a page to its repository, alone and inside a small Sphinx build."""

import os
import subprocess
import sys

import nbformat
import pytest
from bs4 import BeautifulSoup
from deadly_triad_book.pages.repository import launches, requirement, site, theme_options

GITHUB = {"GITHUB_SERVER_URL": "https://git.example.org", "GITHUB_REPOSITORY": "someone/book", "GITHUB_REF_NAME": "next"}


@pytest.mark.parametrize(
    "environment", [{}, {"GITHUB_REPOSITORY": ""}, {"GITHUB_REF_NAME": "main", "GITHUB_SERVER_URL": "https://github.com"}]
)
def test_no_repository_no_buttons(environment):
    assert theme_options(environment) == {}
    assert not requirement(environment)
    assert not site(environment)
    assert launches(environment, "a.ipynb") == {}


def test_machines_that_know_github_alone_get_no_other_address():
    assert launches(GITHUB, "a.ipynb") == {}
    assert not site(GITHUB)
    assert requirement(GITHUB).endswith("git+https://git.example.org/someone/book")


def test_options_follow_the_environment():
    options = theme_options(GITHUB)
    assert options["repository_url"] == "https://git.example.org/someone/book"
    assert options["repository_branch"] == "next"
    assert all(options[f"use_{button}_button"] is True for button in ("repository", "source", "issues"))
    assert theme_options({"GITHUB_REPOSITORY": "someone/book"})["repository_url"] == "https://github.com/someone/book"


@pytest.mark.parametrize("repository", ["", "someone/book"])
def test_pages_link_to_the_repository_and_chapters_to_machines(repository, tmp_path):
    (tmp_path / "index.rst").write_text("Title\n=====\n\n.. toctree::\n\n   one\n", encoding="utf-8")
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One")]), tmp_path / "one.ipynb")
    extensions = "extensions=myst_nb,sphinx_book_theme,deadly_triad_book.pages.repository"
    settings = ["-D", extensions, "-D", "html_theme=sphinx_book_theme", "-D", "nb_execution_mode=off"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", *settings, tmp_path, tmp_path / "html"]
    environment = os.environ | {"GITHUB_REPOSITORY": repository, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": "next"}
    subprocess.run(command, env=environment, check=True)
    page, chapter = (
        BeautifulSoup((tmp_path / "html" / f"{name}.html").read_text(encoding="utf-8"), "html.parser") for name in ("index", "one")
    )
    links = {link["href"] for link in page.select("a[href]")}
    wanted = {
        "https://github.com/someone/book",
        "https://github.com/someone/book/issues/new?title=Issue%20on%20page%20%2Findex.html&body=Your%20issue%20content%20here.",
        "https://github.com/someone/book/blob/next/index.rst?plain=1",
    }
    assert wanted & links == (wanted if repository else set())
    machines = {
        "Colab": "https://colab.research.google.com/github/someone/book/blob/notebooks/one.ipynb",
        "Binder": "https://mybinder.org/v2/gh/someone/book/notebooks?urlpath=lab/tree/one.ipynb",
    }
    shown = {link.get_text().strip(): link["href"] for link in chapter.select(".dropdown-launch-buttons a")}
    assert shown == (machines if repository else {})
    assert not page.select(".dropdown-launch-buttons")
