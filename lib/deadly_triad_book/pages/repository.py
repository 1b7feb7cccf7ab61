"""A Sphinx extension: links from every page to the repository it was built from.

The repository is not written down anywhere, so that a fork's book links to the fork. A build on GitHub finds it in the environment; any
other build has no such buttons.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config


def theme_options(environment: Mapping[str, str]) -> dict[str, str | bool]:
    """Options of the book theme that follow from GitHub's environment variables; none where there is no repository.

    >>> theme_options({"GITHUB_REPOSITORY": "someone/book", "GITHUB_REF_NAME": "main"})["repository_url"]
    'https://github.com/someone/book'
    """
    repository = environment.get("GITHUB_REPOSITORY")
    if not repository:
        return {}
    return {
        "repository_url": f"{environment.get('GITHUB_SERVER_URL') or 'https://github.com'}/{repository}",
        "repository_branch": environment.get("GITHUB_REF_NAME") or "main",
        "use_repository_button": True,
        "use_source_button": True,
        "use_issues_button": True,
    }


def _add_repository(_app: "Sphinx", config: "Config") -> None:
    config.html_theme_options.update(theme_options(os.environ))


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _add_repository)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
