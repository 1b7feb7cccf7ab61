"""Examples in docstrings of the book's own package say what comes out; those of `deadly_triad` are run with its tests."""

import doctest
import importlib
from pathlib import Path

import deadly_triad_book
import pytest

FOLDER = Path(deadly_triad_book.__file__).parent
EXAMPLES = [path.relative_to(FOLDER.parent) for path in sorted(FOLDER.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", EXAMPLES, ids=str)
def test_examples_come_out_as_they_stand(path):
    found = doctest.testmod(importlib.import_module(".".join(path.with_suffix("").parts)))
    assert found.attempted
    assert not found.failed
