"""A Sphinx extension: pages without what no page uses.

The theme's style sheets have rules for all that a site could want, and those of other extensions too; a search loads its index with every
page, though the search has a page of its own (`templates/layout.html` leaves it out elsewhere); and Matplotlib writes coordinates to a
millionth of a point. Rules whose classes occur nowhere go when the book is built, and pictures keep a hundredth of a point.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tinycss2  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx

NAME = re.compile(r"[A-Za-z_][\w-]*")
DIGITS = re.compile(r"-?\d+\.\d{3,}")
PLACES = re.compile(r'(?<= )(?:d|x|y)="[^"]*"|translate\([^)]*\)')
SAID_OF_PICTURES = re.compile(r"\s*<metadata>.*?</metadata>|\s*<!--.*?-->", re.DOTALL)


def names_in(text: str) -> Callable[[str], bool]:
    """Whether pages and scripts can mean a class or an id: they hold it, or the beginning, with its hyphen, that a script completes.

    >>> known = names_in("<p class='quiet'> <script>box.className = 'is-' + state</script>")
    >>> known("quiet"), known("is-open"), known("loud")
    (True, True, False)
    """
    words = set(NAME.findall(text))
    beginnings = tuple(word for word in words if word.endswith("-"))
    return lambda name: name in words or name.startswith(beginnings)


def prune(rules: list[Any], known: Callable[[str], bool]) -> Iterator[str]:
    """The rules of a style sheet that can apply where only known classes and ids are; what they say is left as it stands."""
    for rule in rules:
        if rule.type == "qualified-rule":
            selectors = [selector for selector in _split(rule.prelude) if _applies(selector, known)]
            if selectors:
                yield f"{','.join(selectors)}{{{tinycss2.serialize(rule.content)}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword in {"media", "supports"} and rule.content is not None:
            inside = "".join(prune(tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True), known))
            if inside:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inside}}}"
        else:
            yield rule.serialize()


def _split(prelude: list[Any]) -> list[str]:
    """The selectors of a list of selectors; a comma within parentheses is in a block of its own and splits nothing."""
    parts: list[list[Any]] = [[]]
    for token in prelude:
        if token.type == "literal" and token.value == ",":
            parts.append([])
        else:
            parts[-1].append(token)
    return [tinycss2.serialize(part) for part in parts]


def _applies(selector: str, known: Callable[[str], bool]) -> bool:
    """Whether all that it must find can be there; one of several in `:is()` is enough, what `:not()` excludes need not be anywhere."""
    while (inner := re.search(r":(not|is|where|has)\(([^()]*)\)", selector)) is not None:
        needless = inner[1] == "not" or any(_applies(part, known) for part in inner[2].split(","))
        selector = selector[: inner.start()] + ("" if needless else ".-") + selector[inner.end() :]
    return "\\" in selector or (".-" not in selector and all(known(name) for name in re.findall(r"[.#]([A-Za-z_][\w-]*)", selector)))


def lighten(picture: str) -> str:
    """An SVG by Matplotlib without what it says of itself, and with places to a hundredth of a point.

    >>> lighten('<path d="M 1.23456 -0.001 L 20 3.5" style="stroke-width: 0.125"/>')
    '<path d="M 1.23 0 L 20 3.5" style="stroke-width: 0.125"/>'
    """

    def shorten(number: re.Match[str]) -> str:
        short = f"{float(number[0]):.2f}".rstrip("0").rstrip(".")
        return "0" if short == "-0" else short

    return PLACES.sub(lambda place: DIGITS.sub(shorten, place[0]), SAID_OF_PICTURES.sub("", picture))


def _shrink(app: "Sphinx", exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    scripts = [path for ending in ("js", "mjs") for path in out.glob(f"_static/**/*.{ending}")]
    known = names_in("".join(path.read_text(encoding="utf-8") for path in [*out.rglob("*.html"), *scripts]))
    for path in out.glob("_static/**/*.css"):
        rules = tinycss2.parse_stylesheet(path.read_text(encoding="utf-8"), skip_comments=True, skip_whitespace=True)
        path.write_text("".join(prune(rules, known)), encoding="utf-8")
    for path in out.glob("_images/*.svg"):
        path.write_text(lighten(path.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension. After `icons`, which finds in the style sheets the icons that pages name."""
    app.connect("build-finished", _shrink, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
