"""What only the book needs: figure style, drawings, Sphinx glue. No mathematics lives here."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HERE = Path(__file__).parent
RESULTS = _HERE / "results" if (_HERE / "results").is_dir() else _HERE.parents[1] / "experiments" / "results"
"""The folder of the experiments' committed results: in an installed package, or in the checkout that is being worked on."""


@contextmanager
def book_extra() -> Iterator[None]:
    """Around imports that the package itself does not require: where one is missing, the error says how to get it.

    Raises:
        ModuleNotFoundError: if a module is missing.
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        message = f"{missing.name} must be installed for the book's figures: pip install 'deadly-triad[book]'"
        raise ModuleNotFoundError(message, name=missing.name) from missing
