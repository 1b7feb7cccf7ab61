"""A Sphinx extension: links from every page to the repository it was built from, and from every chapter to machines that run it.

The repository is not written down anywhere, so that a fork's book links to the fork. A build on GitHub finds it in the environment; any
other build has no such buttons. Colab and Binder open the notebooks that stand alone, which the workflow puts on a branch of their own.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

BRANCH = "notebooks"
"""Of the repository, where `.github/workflows/book.yml` puts the notebooks."""
EXTRAS = "agents,book,certificates"
"""What a chapter may need on top of the package."""
GITHUB = "https://github.com"


def address(environment: Mapping[str, str]) -> str:
    """The repository; empty where there is none."""
    repository = environment.get("GITHUB_REPOSITORY")
    return f"{environment.get('GITHUB_SERVER_URL') or GITHUB}/{repository}" if repository else ""


def theme_options(environment: Mapping[str, str]) -> dict[str, str | bool]:
    """Options of the book theme that follow from GitHub's environment variables; none where there is no repository.

    >>> theme_options({"GITHUB_REPOSITORY": "someone/book", "GITHUB_REF_NAME": "main"})["repository_url"]
    'https://github.com/someone/book'
    """
    if not address(environment):
        return {}
    return {
        "repository_url": address(environment),
        "repository_branch": environment.get("GITHUB_REF_NAME") or "main",
        "use_repository_button": True,
        "use_source_button": True,
        "use_issues_button": True,
    }


def site(environment: Mapping[str, str]) -> str:
    """Where GitHub Pages shows the book; empty where that is not known.

    >>> site({"GITHUB_REPOSITORY": "Someone/book"}), site({"GITHUB_REPOSITORY": "someone/someone.github.io"})
    ('https://someone.github.io/book/', 'https://someone.github.io/')
    """
    if not address(environment).startswith(f"{GITHUB}/"):
        return ""
    owner, _, name = environment["GITHUB_REPOSITORY"].partition("/")
    host = f"{owner.lower()}.github.io"
    return f"https://{host}/" if name.lower() == host else f"https://{host}/{name}/"


def requirement(environment: Mapping[str, str]) -> str:
    """What pip installs to run a chapter: the package as it was when the book was built. Empty where there is no repository.

    >>> requirement({"GITHUB_REPOSITORY": "someone/book", "GITHUB_SHA": "1f2e"})
    'deadly-triad[agents,book,certificates] @ git+https://github.com/someone/book@1f2e'
    """
    commit = environment.get("GITHUB_SHA")
    return f"deadly-triad[{EXTRAS}] @ git+{address(environment)}{f'@{commit}' if commit else ''}" if address(environment) else ""


def launches(environment: Mapping[str, str], notebook: str) -> dict[str, str]:
    """By its name, the address of each machine that opens a notebook; none where the repository is not on GitHub.

    >>> launches({"GITHUB_REPOSITORY": "someone/book"}, "01_maps.ipynb")["Colab"]
    'https://colab.research.google.com/github/someone/book/blob/notebooks/01_maps.ipynb'
    """
    if not address(environment).startswith(f"{GITHUB}/"):
        return {}
    repository = environment["GITHUB_REPOSITORY"]
    return {
        "Colab": f"https://colab.research.google.com/github/{repository}/blob/{BRANCH}/{notebook}",
        "Binder": f"https://mybinder.org/v2/gh/{repository}/{BRANCH}?urlpath=lab/tree/{notebook}",
    }


def _add_repository(_app: "Sphinx", config: "Config") -> None:
    config.html_theme_options.update(theme_options(os.environ))
    config.html_baseurl = config.html_baseurl or site(os.environ)


def _add_launches(app: "Sphinx", page: str, _template: str, context: dict[str, Any], doctree: object) -> None:
    if doctree and Path(app.env.doc2path(page)).suffix == ".ipynb" and "header_buttons" in context:
        buttons = [
            {"type": "link", "text": name, "tooltip": f"Run this chapter on {name}", "url": url, "icon": "fas fa-play"}
            for name, url in launches(os.environ, f"{Path(page).name}.ipynb").items()
        ]
        if buttons:
            group = {"type": "group", "tooltip": "Run this chapter", "icon": "fas fa-rocket", "label": "launch-buttons"}
            context["header_buttons"].insert(0, group | {"buttons": buttons})


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _add_repository)
    app.connect("html-page-context", _add_launches, priority=900)  # when the theme has made its own
    return {"parallel_read_safe": True, "parallel_write_safe": True}
