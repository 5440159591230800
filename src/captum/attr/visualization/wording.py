"""Words and numbers as they are shown: control characters made visible, names shortened, glyphs that exist."""

from __future__ import annotations

import math
import unicodedata
from functools import lru_cache

__all__ = ["drawable", "short_number", "shorten", "visible"]

_SHORT_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}
_JOINERS = "\u200c\u200d"  # Persian, Indic scripts and emoji are misspelt without them
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def visible(text: str) -> str:
    r"""The text with control, bidirectional, invisible and unassigned characters written as escapes.

    >>> print(visible("abc\u202edcb\n"))
    abc\u202edcb\n
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character in _JOINERS or unicodedata.category(character) not in _HIDDEN:
        return character
    return code_point(character)


def code_point(character: str) -> str:
    r"""``\x1b``, ``\u202e`` or ``\U000e0041``."""
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def shorten(text: str, longest: int = 38) -> str:
    """The text on one line, its middle replaced by an ellipsis where it is too long.

    >>> shorten("a_very_long_feature_name", 12)
    'a_very_…name'
    """
    text = visible(text)
    if len(text) <= longest:
        return text
    tail = (longest - 1) * 5 // 12
    return f"{text[: longest - 1 - tail]}…{text[len(text) - tail :] if tail else ''}"


def short_number(value: float, *, sign: bool = False, digits: int = 3) -> str:
    """A number in so many significant digits, with a true minus; ``sign`` adds a plus to positive ones.

    >>> short_number(0.012345, sign=True), short_number(-1234567.0), short_number(0.0)
    ('+0.0123', '−1.23e6', '0')
    """
    if math.isnan(value):
        return "NaN"
    value += 0.0  # −0 is 0
    text = f"{value:.{digits}g}" if math.isinf(value) or not 1e3 <= abs(value) < 1e5 else f"{value:.0f}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        text = f"{mantissa}e{int(exponent)}"
    return f"{'+' if sign and value > 0 else ''}{text}".replace("-", "−")


# ---- glyphs ------------------------------------------------------------------------------------------------------

_FAMILIES = (
    "DejaVu Sans",
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "Arial Unicode MS",
    "Noto Sans",
    "Noto Sans Devanagari",
    "Noto Sans Arabic",
    "Noto Sans Hebrew",
    "Noto Sans Symbols 2",
    "Noto Emoji",
    "Segoe UI Symbol",
)


@lru_cache(maxsize=1)
def _fonts() -> tuple[list[str], frozenset[int]]:
    from matplotlib import font_manager

    installed = set(font_manager.get_font_names())
    families = [name for name in _FAMILIES if name in installed]
    glyphs: set[int] = set()
    for name in families:
        font = font_manager.get_font(font_manager.findfont(name))
        glyphs.update(font.get_charmap())
    return families, frozenset(glyphs)


def font_families() -> list[str]:
    """Font families that are installed, matplotlib's own first, the others as fallbacks for further scripts."""
    return list(_fonts()[0])


def drawable(text: str) -> str:
    """The text with :func:`visible` escapes, and code points in place of characters that no installed font can draw."""
    text = visible(text)
    if text.isascii():
        return text
    glyphs = _fonts()[1]
    return "".join(character if ord(character) in glyphs else code_point(character) for character in text)
