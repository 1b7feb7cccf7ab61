"""The extension that links a page to its repository, alone and inside a small Sphinx build."""

import os
import subprocess
import sys

import pytest
from deadly_triad_book.pages.repository import theme_options

GITHUB = {"GITHUB_SERVER_URL": "https://git.example.org", "GITHUB_REPOSITORY": "someone/book", "GITHUB_REF_NAME": "next"}


@pytest.mark.parametrize(
    "environment", [{}, {"GITHUB_REPOSITORY": ""}, {"GITHUB_REF_NAME": "main", "GITHUB_SERVER_URL": "https://github.com"}]
)
def test_no_repository_no_buttons(environment):
    assert theme_options(environment) == {}


def test_options_follow_the_environment():
    options = theme_options(GITHUB)
    assert options["repository_url"] == "https://git.example.org/someone/book"
    assert options["repository_branch"] == "next"
    assert all(options[f"use_{button}_button"] is True for button in ("repository", "source", "issues"))
    assert theme_options({"GITHUB_REPOSITORY": "someone/book"})["repository_url"] == "https://github.com/someone/book"


@pytest.mark.parametrize("repository", ["", "someone/book"])
def test_pages_link_to_the_repository(repository, tmp_path):
    (tmp_path / "index.rst").write_text("Title\n=====\n", encoding="utf-8")
    settings = ["-D", "extensions=sphinx_book_theme,deadly_triad_book.pages.repository", "-D", "html_theme=sphinx_book_theme"]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-C", *settings, tmp_path, tmp_path / "html"]
    environment = os.environ | {"GITHUB_REPOSITORY": repository, "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REF_NAME": "next"}
    subprocess.run(command, env=environment, check=True)
    page = (tmp_path / "html" / "index.html").read_text(encoding="utf-8")
    links = (
        "https://github.com/someone/book/issues/new",
        "https://github.com/someone/book/blob/next/index.rst",
        'href="https://github.com/someone/book"',
    )
    assert [link in page for link in links] == [bool(repository)] * 3
