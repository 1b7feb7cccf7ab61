"""Each number in the prose comes out of a cell, and a second route agrees with it."""

import ast
import math
import re
import runpy
from collections import Counter
from pathlib import Path

import myst_nb
import numpy as np
import pytest
from deadly_triad_book.numbers import glue

EXPECTED = runpy.run_path(str(Path(__file__).with_name("expected_numbers.py")))["EXPECTED"]
PREFIX = "application/papermill.record/"  # in front of the mime types of a value that is glued without being shown


def glue_calls(source) -> list[str]:
    """The names that the code of a page glues."""
    names = []
    for cell in source.code:
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "glue":
                name = node.args[0] if node.args else None
                assert isinstance(name, ast.Constant), f"{source.name}: the name in {ast.unparse(node)} is not a plain string"
                names.append(name.value)
    return names


def glue_references(source) -> list[tuple[str, str]]:
    """The glued values that the prose of a page shows, as pairs of page and name."""
    found = []
    for cell in source.prose:
        references = re.findall(r"\{glue(?::\w+)?\}`([^`]+)`", cell.source) + re.findall(
            r"^\s*[:`]{3,}\{glue(?::\w+)?\}\s+(\S+)", cell.source, re.M
        )
        for reference in references:
            page, _, key = reference.rpartition("::")
            where = (source.path.parent / page).relative_to(source.path.parents[1]).as_posix() if page else source.name
            found.append((where, key.split(":")[0]))
    return found


def glued_values(source) -> dict[str, float | int | str]:
    """The plain values that a page glued in the last build. Glued figures and tables are for eyes, not for comparison."""
    values = {}
    for cell in source.executed.cells:
        for output in cell.get("outputs", []):
            if name := output.get("metadata", {}).get("scrapbook", {}).get("name"):
                data = {mime.removeprefix(PREFIX): text for mime, text in output["data"].items()}
                if set(data) == {"text/plain"}:
                    values[name] = plain(name, data["text/plain"])
    return values


def plain(name: str, text: str) -> float | int | str:
    """The value behind its printed form."""
    try:
        return float(text) if text in {"inf", "-inf", "nan"} else ast.literal_eval(text)
    except (SyntaxError, ValueError):
        pytest.fail(f"{name} is glued as {text}, which the prose cannot format: glue a plain number (float(…), int(…)) or a string")


def test_every_name_is_glued_once_and_shown(pages):
    glued = [(page.name, name) for page in pages for name in glue_calls(page)]
    shown = {reference for page in pages for reference in glue_references(page)}
    twice = [name for name, count in Counter(name for _, name in glued).items() if count > 1]
    assert not twice, f"glued more than once: {twice}"
    assert not set(glued) - shown, f"glued but never shown in the prose: {sorted(set(glued) - shown)}"
    assert not shown - set(glued), f"shown in the prose but never glued: {sorted(shown - set(glued))}"


def test_every_expectation_is_glued(pages):
    glued = {name for page in pages for name in glued_values(page)}
    assert not set(EXPECTED) - glued, f"expected_numbers.py has what no page glues: {sorted(set(EXPECTED) - glued)}"


def test_the_second_route_agrees(source):
    faults = []
    for name, value in glued_values(source).items():
        if name not in EXPECTED:
            faults.append(f"{name} = {value!r} has no second route in expected_numbers.py")
            continue
        route, tolerance = EXPECTED[name] if isinstance(EXPECTED[name], tuple) else (EXPECTED[name], 1e-9)
        expected = route()
        agree = value == expected if isinstance(value, str) else math.isclose(value, expected, rel_tol=tolerance, abs_tol=0)
        if not agree:
            faults.append(f"{name}: the chapter has {value!r}, the second route {expected!r}")
    assert not faults, "\n".join([source.name, *faults])


def test_glue_hands_over_plain_numbers(monkeypatch):
    kept = {}
    monkeypatch.setattr(myst_nb, "glue", lambda name, value, display: kept.update({name: (type(value), value, display)}))
    for name, value in {"a": np.float64(0.5), "b": np.int64(3), "c": 2.5, "d": "word"}.items():
        glue(name, value)
    assert kept == {"a": (float, 0.5, False), "b": (int, 3, False), "c": (float, 2.5, False), "d": (str, "word", False)}
    with pytest.raises(ValueError, match="value of e must be finite, got nan"):
        glue("e", np.float64("nan"))
