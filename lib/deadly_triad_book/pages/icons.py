"""A Sphinx extension: of the theme's icon font only the icons that pages show.

The theme brings the whole of Font Awesome twice, as a script of half a megabyte, compressed, and as fonts. The script is left out
(`templates/`), as the fonts do the same work; and the fonts are cut down to what the pages and the style sheets name.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fontTools import subset  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config

FONTS = "_static/vendor/fontawesome/webfonts"
UNUSED = ("_static/scripts/fontawesome.js", "_static/scripts/fontawesome.js.map", "_static/scripts/fontawesome.js.LICENSE.txt")


def named_icons(pages: str) -> set[str]:
    """Classes such as `fa-bars` that pages, or scripts that write into pages, name."""
    return set(re.findall(r"\bfa-[a-z0-9-]+", pages))


def code_points(styles: str, icons: set[str]) -> set[int]:
    r"""The characters that style sheets show for these icons, and those that they show without naming an icon.

    >>> sorted(map(hex, code_points(r'.fa-bars{--fa:"\\f0c9"}.fa-bat{--fa:"\\f6b5"}.title:after{content:"\\f0eb"}', {"fa-bars"})))
    ['0xf0c9', '0xf0eb']
    """
    found = set()
    for selectors, body in re.findall(r"([^{}]*)\{([^{}]*)\}", styles):
        classes = set(re.findall(r"\.(fa-[a-z0-9-]+)", selectors))
        if not classes or classes & icons:
            found |= {int(code, 16) for code in re.findall(r"\\(e[0-9a-f]{3}|f[0-9a-f]{3})\b", body)}
    return found


def cut_down(folder: Path, characters: set[int]) -> None:
    """Leave of each font in a folder the given characters, in the format that needs no further library; its other formats go."""
    for path in sorted(folder.glob("*.ttf")):
        font = TTFont(path)
        cutter = subset.Subsetter(subset.Options(drop_tables=["FFTM"]))
        cutter.populate(unicodes=characters)
        cutter.subset(font)
        font.save(path)
        path.with_suffix(".woff2").unlink(missing_ok=True)


def _shrink(app: "Sphinx", exception: Exception | None) -> None:
    if exception or app.builder.name != "html":
        return
    out = Path(app.outdir)
    scripts = [path for path in out.glob("_static/scripts/*.js") if path.name != "fontawesome.js"]
    pages = "".join(path.read_text(encoding="utf-8") for path in [*out.rglob("*.html"), *scripts])
    sheets = sorted(out.glob("_static/**/*.css"))
    styles = {path: path.read_text(encoding="utf-8") for path in sheets}
    cut_down(out / FONTS, code_points("".join(styles.values()), named_icons(pages)))
    for path, text in styles.items():
        if "fa-solid-900.woff2" in text:
            path.write_text(re.sub(r'url\([^)]*/fa-[\w-]+\.woff2\) format\("woff2"\),', "", text), encoding="utf-8")
    for name in UNUSED:
        (out / name).unlink(missing_ok=True)


def _override(_app: "Sphinx", config: "Config") -> None:
    config.templates_path.append(str(Path(__file__).parent / "templates"))


def setup(app: "Sphinx") -> dict[str, Any]:
    """Register the extension."""
    app.connect("config-inited", _override)
    app.connect("build-finished", _shrink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
