"""Fonts for characters that Matplotlib's own font lacks, such as those of Chinese class names."""
import contextlib
import functools
import re
import warnings

# Families that are tried, best first. Of a collection (.ttc) Matplotlib knows the first face alone, often the JP one,
# which has the characters of all.
FONTS = ("Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei",
         "WenQuanYi Zen Hei", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB", "Heiti SC", "STHeiti",
         "Noto Sans CJK JP", "Noto Sans CJK TC", "Noto Sans CJK KR", "Source Han Sans", "Heiti TC", "PingFang HK",
         "Droid Sans Fallback", "Noto Serif CJK SC", "Noto Serif CJK JP", "SimSun", "AR PL UMing CN",
         "Arial Unicode MS")
_FILES = re.compile(r"noto.*cjk|notosanssc|sourcehan|wqy|msyh|simhei|simsun|pingfang|hiragino|heiti|fallback|uming|"
                    r"arial.?unicode", re.IGNORECASE)


def fit_fonts(figure):
    """Give each text of a figure a font for the characters that its own font lacks; the other texts stay as they are.

    Warns once for each process where no font here has them.
    """
    from matplotlib.text import Text
    texts = [(text, missing) for text in figure.findobj(Text) if (missing := _missing(text))]
    if not texts:
        return
    characters = frozenset().union(*(missing for _, missing in texts))
    family = _family(characters)
    if family is None:
        _warn()
        return
    for text, _ in texts:
        own = text.get_fontfamily()
        if family not in own:
            text.set_fontfamily([*own, family])


def _missing(text):
    """The characters that the font of a ``Text`` lacks."""
    from matplotlib import font_manager
    characters = {character for character in text.get_text() if ord(character) > 127}
    if not characters:
        return characters
    known = _characters(font_manager.findfont(text.get_fontproperties()))
    return {character for character in characters if ord(character) not in known}


@functools.cache
def _characters(path):
    from matplotlib import font_manager
    return frozenset(font_manager.get_font(path).get_charmap())


@functools.lru_cache(maxsize=64)
def _family(characters):
    """The first of ``FONTS`` that is here and has the characters; one with most of them; None for none of them."""
    from matplotlib import font_manager
    best, most = None, 0
    for _ in range(2):
        here = {font.name for font in font_manager.fontManager.ttflist}
        for family in filter(here.__contains__, FONTS):
            known = _characters(font_manager.findfont(family))
            found = sum(ord(character) in known for character in characters)
            if found > most:
                best, most = family, found
        if best:
            break
        _find_files()
    return best


@functools.cache
def _find_files():
    """Tell Matplotlib of font files that were installed after it made its list."""
    from matplotlib import font_manager
    known = {font.fname for font in font_manager.fontManager.ttflist}
    for path in font_manager.findSystemFonts():
        if path not in known and _FILES.search(path):
            with contextlib.suppress(OSError, RuntimeError):  # a damaged file
                font_manager.fontManager.addfont(path)


@functools.cache
def _warn():
    """Once, and then no line of Matplotlib for each character."""
    warnings.warn("no font here has the characters of this figure's names, so boxes stand for them; install one of: "
                  f"{', '.join(FONTS[:9])} (Debian, Ubuntu: apt install fonts-noto-cjk)", stacklevel=5)
    warnings.filterwarnings("ignore", message=r"Glyph \d+ .*missing from")
