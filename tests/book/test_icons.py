"""The extension that leaves of the theme's icons those that are shown."""

from deadly_triad_book.pages.icons import code_points, cut_down, named_icons
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont

STYLES = r'.fa-bars:before,.fa-navicon:before{content:"\f0c9"}.fa-bat:before{content:"\f6b5"}.admonition:after{content:"\f05a"}'


def test_icons_are_those_that_pages_and_styles_name():
    icons = named_icons('<i class="fa-solid fa-bars fa-lg"></i>')
    assert icons == {"fa-solid", "fa-bars", "fa-lg"}
    assert code_points(STYLES, icons) == {0xF0C9, 0xF05A}


def test_a_font_keeps_what_is_asked_for_and_nothing_else(tmp_path):
    builder, codes = FontBuilder(unitsPerEm=1000), {0xF0C9: "bars", 0xF6B5: "bat"}
    names = [".notdef", *codes.values()]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(codes)
    builder.setupGlyf(dict.fromkeys(names, TTGlyphPen(None).glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupPost()
    builder.save(tmp_path / "icons.ttf")
    (tmp_path / "icons.woff2").touch()
    cut_down(tmp_path, {0xF0C9})
    assert [path.name for path in tmp_path.iterdir()] == ["icons.ttf"]
    assert list(TTFont(tmp_path / "icons.ttf").getBestCmap()) == [0xF0C9]
