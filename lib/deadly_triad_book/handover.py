"""Data on their way from a cell into a figure that moves."""

import json
from typing import Any

from IPython.display import display

PREFIX = "application/papermill.record/"  # MyST-NB leaves such an output off the page, and finds it by its name


def hand_over(name: str, data: dict[str, Any]) -> None:
    """Keep `data`, which JSON can hold, under `name` for the figure that asks for it (`:data: name`), and print nothing here.

    Raises:
        ValueError: if a number is NaN or infinite, which JSON cannot hold.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    display({f"{PREFIX}application/json": text}, raw=True, metadata={"scrapbook": {"name": name, "mime_prefix": PREFIX}})  # type: ignore[no-untyped-call]
