"""Tokens on the colours of their attributions: as HTML, for a terminal, and as a figure.

A token's background is orange for positive and blue for negative, the darker the larger, symmetric about 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization.arrays import Floats, as_floats
from captum.attr.visualization.canvas import token_colours
from captum.attr.visualization.markup import element, escaped
from captum.attr.visualization.scaling import symmetric_limit
from captum.attr.visualization.tokens import read_tokens
from captum.attr.visualization.wording import short_number, visible
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from captum.attr.visualization.arrays import Values

__all__ = ["text_ansi", "text_html"]

_COLOUR_DEPTHS = ("truecolor", "256", "none")
_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif"


@dataclass(frozen=True, slots=True)
class Coloured:
    """One token ready to be drawn: readable text, whether a space stands before it, value and strength in [-1, 1]."""

    text: str
    space: bool
    value: float
    strength: float


def prepare(tokens: Sequence[str], values: Values, marker: str, limit: float | None) -> tuple[list[Coloured], float]:
    """The tokens as they read, and the value at which the colours end."""
    array = as_floats(values, "values")
    if array.ndim == 2 and 1 in array.shape:
        array = array.ravel()
    if array.shape != (len(tokens),):
        message = f"values must be one number per token: expected ({len(tokens)},), got shape {array.shape}."
        raise InputError(message)
    end = symmetric_limit(array) if limit is None else float(limit)
    if not 0 < end < math.inf:
        message = f"limit must be a positive number; got {limit}."
        raise InputError(message)
    strengths: Floats = np.nan_to_num(np.clip(array, -end, end) / end, nan=0.0)
    pieces = read_tokens([str(token) for token in tokens], marker)
    found = [
        Coloured(_shown(piece.text), piece.space and index > 0, value, strength)
        for index, (piece, value, strength) in enumerate(zip(pieces, array.tolist(), strengths.tolist(), strict=True))
    ]
    return found, end


def _shown(text: str) -> str:
    """Text that leaves a mark: blanks alone become open boxes."""
    return visible(text) if text.strip(" ") else "␣" * max(len(text), 1)


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _mark(token: Coloured, show_values: bool) -> str:
    back, front = token_colours(token.strength)
    style = f"background:{_hex(back)};color:{_hex(front)};border-radius:3px;padding:1px 2px;unicode-bidi:isolate"
    if not math.isfinite(token.value):
        style += ";outline:1px dashed #9aa0a8"
    number = short_number(token.value, sign=True)
    below = element("sub", escaped(number), style="font-size:0.65em;margin-left:2px") if show_values else ""
    return (" " if token.space else "") + element("span", escaped(token.text), below, title=number, style=style)


def _scale(limit: float) -> str:
    stops = ",".join(_hex(token_colours(step / 8)[0]) for step in range(-8, 9))
    style = f"display:inline-block;width:9em;height:0.7em;margin:0 0.5em;background:linear-gradient(90deg,{stops})"
    ends = [escaped(short_number(end, sign=True)) for end in (-limit, limit)]
    bar = element("span", style=style)
    return element("div", ends[0], bar, ends[1], style="font-size:0.8em;color:#5b616b;margin-top:0.5em")


def _table(tokens: list[Coloured], longest: int) -> str:
    order = sorted(
        (index for index, token in enumerate(tokens) if math.isfinite(token.value)), key=lambda i: -abs(tokens[i].value)
    )
    cell = "text-align:left;padding:1px 12px 1px 0"
    head = element(
        "tr", *[element("th", name, scope="col", style=cell) for name in ("position", "token", "attribution")]
    )
    rows = [
        element(
            "tr",
            element("td", str(index), style=cell),
            element("td", escaped(tokens[index].text), style=cell),
            element("td", escaped(short_number(tokens[index].value, sign=True)), style=cell),
        )
        for index in order[:longest]
    ]
    more = f" (the {longest} largest of {len(order)})" if len(order) > longest else ""
    table = element("table", element("thead", head), element("tbody", *rows), style="border-collapse:collapse")
    summary = element("summary", f"Show as table{more}", style="cursor:pointer")
    return element("details", summary, table, style="font-size:0.8em;color:#5b616b;margin-top:0.4em")


def text_html(
    tokens: Sequence[str],
    values: Values,
    *,
    marker: str = "auto",
    limit: float | None = None,
    title: str | None = None,
    show_values: bool = False,
    legend: bool = True,
    table: bool = True,
) -> str:
    """Tokens on coloured backgrounds as HTML that needs nothing else: no script, no style sheet, no class names.

    Args:
        tokens: the tokenizer's own pieces, T of them, or words.
        values: ``(T,)`` attributions.
        marker: how the tokens show spaces, as in :func:`read_tokens`.
        limit: value at which the colours end; None: the largest magnitude.
        title: a line above, in bold.
        show_values: write the number beside each token; otherwise it shows while the pointer rests on it.
        legend: draw the colour scale with its numbers.
        table: add a foldable table of the tokens, the largest first.

    Returns:
        A well-formed ``div`` in which all text is escaped.

    Raises:
        InputError: if the numbers of tokens and values differ, or ``marker`` or ``limit`` cannot be used.

    >>> "good" in text_html(["a", "good", "film"], [0.0, 0.8, 0.1])
    True
    """
    found, end = prepare(tokens, values, marker, limit)
    marks = element("p", *[_mark(token, show_values) for token in found], dir="auto", style="margin:0;line-height:1.9")
    return element(
        "div",
        element("div", element("b", escaped(title)), style="margin-bottom:0.4em") if title else "",
        marks,
        _scale(end) if legend else "",
        _table(found, 50) if table else "",
        style=f"{_FONT};background:#ffffff;color:#22262b;padding:0.6em 0.8em;border-radius:4px",
    )


def _cube(colour: tuple[int, int, int]) -> int:
    """The nearest entry of the 6 × 6 × 6 colour cube of terminals with 256 colours."""
    levels = (0, 95, 135, 175, 215, 255)
    red, green, blue = (min(range(6), key=lambda level, part=part: abs(levels[level] - part)) for part in colour)
    return 16 + 36 * red + 6 * green + blue


def _escape_codes(colour: tuple[int, int, int], layer: int, colors: str) -> str:
    return f"{layer};2;{colour[0]};{colour[1]};{colour[2]}" if colors == "truecolor" else f"{layer};5;{_cube(colour)}"


def text_ansi(
    tokens: Sequence[str],
    values: Values,
    *,
    marker: str = "auto",
    limit: float | None = None,
    colors: str = "truecolor",
) -> str:
    r"""Tokens on coloured backgrounds for a terminal; control characters in the tokens come out as visible escapes.

    Args:
        tokens: the tokenizer's own pieces, T of them, or words.
        values: ``(T,)`` attributions.
        marker: how the tokens show spaces, as in :func:`read_tokens`.
        limit: value at which the colours end; None: the largest magnitude.
        colors: ``"truecolor"``, ``"256"`` or ``"none"``: then the number follows each token in brackets.

    Returns:
        One line of text.

    Raises:
        InputError: if the numbers of tokens and values differ, or ``marker``, ``limit`` or ``colors`` cannot be used.

    >>> print(text_ansi(["good", "film"], [0.8, -0.1], colors="none"))
    good(+0.8) film(−0.1)
    """
    if colors not in _COLOUR_DEPTHS:
        message = f"colors must be one of {', '.join(_COLOUR_DEPTHS)}; got {colors!r}."
        raise InputError(message)
    found, _ = prepare(tokens, values, marker, limit)
    parts: list[str] = []
    for token in found:
        space = " " if token.space else ""
        if colors == "none":
            parts.append(f"{space}{token.text}({short_number(token.value, sign=True)})")
            continue
        back, front = token_colours(token.strength)
        codes = f"{_escape_codes(front, 38, colors)};{_escape_codes(back, 48, colors)}"
        parts.append(f"{space}\x1b[{codes}m{token.text}\x1b[0m")
    return "".join(parts)
