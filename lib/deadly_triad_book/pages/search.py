"""A Sphinx extension: what the search puts first, and what it shows of a page. Both are in `search.js`, beside this file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

SCRIPT = Path(__file__).with_suffix(".js")


def _choose(_app: "Sphinx", config: "Config") -> None:
    config.html_search_scorer = str(SCRIPT)


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _choose)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
