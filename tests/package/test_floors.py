"""The house that the package's docstring draws is the one that stands: every import leads to a floor below."""

import ast
import re
from pathlib import Path

import deadly_triad
import pytest

HOME = Path(deadly_triad.__file__).parent


def floors(drawing):
    """Floor of each module, from the lines `floor  module  what it is` of a docstring."""
    return {module: int(floor) for floor, module in re.findall(r"^ +(\d+)  (\w+) ", drawing, re.MULTILINE)}


def arrows(sources):
    """Pairs (module, imported module) of a package, from its sources; imports inside functions count."""
    found = set()
    for module, source in sources.items():
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                paths = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                home = "deadly_triad" if node.level else None
                path = ".".join(filter(None, (home, node.module)))
                # `from deadly_triad import mdp` names the module last.
                paths = [f"{path}.{alias.name}" for alias in node.names]
            else:
                continue
            for path in paths:
                package, _, rest = path.partition(".")
                if package == "deadly_triad":
                    found.add((module, rest.partition(".")[0]))
    return found


def faults(drawing, sources):
    """What is wrong with a house: modules without a floor, floors without a module, arrows that do not lead down."""
    floor = floors(drawing)
    wrong = [f"{module} is not in the list" for module in sources.keys() - floor.keys()]
    wrong += [f"{module} does not exist" for module in floor.keys() - sources.keys()]
    for module, imported in sorted(arrows(sources)):
        if imported in sources and imported != module and not floor.get(imported, 0) < floor.get(module, 0):
            wrong.append(f"{module} imports {imported}, which is not below it")
    return wrong


def test_every_import_leads_to_a_floor_below():
    sources: dict[str, str] = {}
    for path in HOME.rglob("*.py"):
        # A package stands on one floor with all that is in it.
        module = path.relative_to(HOME).with_suffix("").parts[0]
        sources[module] = sources.get(module, "") + path.read_text(encoding="utf-8") + "\n"
    del sources["__init__"]
    assert len(arrows(sources)) > 20
    assert faults(deadly_triad.__doc__, sources) == []


HOUSE = "\n    1  upper  above\n    1  other   beside it\n    0  lower  below\n"
SOUND = {"upper": "from deadly_triad.lower import f", "other": "", "lower": "import numpy"}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"lower": "from deadly_triad.upper import f"}, "lower imports upper, which is not below it"),
        ({"lower": "def f():\n    from deadly_triad.upper import g"}, "lower imports upper, which is not below it"),
        ({"lower": "import deadly_triad.upper as up"}, "lower imports upper, which is not below it"),
        ({"lower": "from deadly_triad import upper"}, "lower imports upper, which is not below it"),
        ({"lower": "from . import upper"}, "lower imports upper, which is not below it"),
        ({"lower": "from .upper import f"}, "lower imports upper, which is not below it"),
        ({"upper": "from deadly_triad.other import f"}, "upper imports other, which is not below it"),
        ({"attic": ""}, "attic is not in the list"),
    ],
)
def test_a_house_that_would_fall_is_seen(changed, fault):
    assert faults(HOUSE, SOUND) == []
    assert fault in faults(HOUSE, SOUND | changed)


def test_a_floor_without_its_module_and_a_circle_are_seen():
    assert faults(HOUSE, {"upper": "", "lower": ""}) == ["other does not exist"]
    circle = {"upper": "from deadly_triad.other import f", "other": "def g():\n    from deadly_triad import upper", "lower": ""}
    assert len(faults(HOUSE, circle)) == 2
