"""Tokens on the colours of their attributions, set in lines, as a figure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.coloured_text import Coloured, prepare
from captum.attr.visualization.wording import drawable, font_families, short_number, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.font_manager import FontProperties

    from captum.attr.visualization.arrays import Values

__all__ = ["text_figure"]

_POINTS = 11.0
_LINE = 1.95  # line height in font sizes
_LINE_WITH_VALUES = 2.7
_PAD = 0.16  # around a token, in font sizes
_SPACE = 0.3  # between words, in font sizes
_MOST_TOKENS = 1500
_LONGEST_TOKEN = 60


def _font(points: float) -> FontProperties:
    from matplotlib.font_manager import FontProperties

    return FontProperties(family=font_families(), size=points)


def _measure(points: float) -> Callable[[str], float]:
    """Width of a text in points."""
    from matplotlib.backends.backend_agg import RendererAgg

    font, renderer = _font(points), RendererAgg(10, 10, 72)
    known: dict[str, float] = {}

    def width(text: str) -> float:
        if text not in known:
            known[text] = float(renderer.get_text_width_height_descent(text, font, ismath=False)[0])
        return known[text]

    return width


def _break_lines(widths: list[float], spaces: list[bool], room: float) -> list[tuple[int, float]]:
    """Line and left edge of each token; a line breaks before a word, or inside one that fills a line alone."""
    places: list[tuple[int, float]] = []
    line, left = 0, 0.0
    for index, width in enumerate(widths):
        end = index + 1
        while end < len(widths) and not spaces[end]:
            end += 1
        word = sum(widths[index:end])
        left += _SPACE * _POINTS if spaces[index] else 0.0
        starts_word = spaces[index] or index == 0
        if left > 0 and (left + width > room or (starts_word and word <= room and left + word > room)):
            line, left = line + 1, 0.0
        places.append((line, left))
        left += width
    return places


def _box(axes: Axes, token: Coloured, left: float, top: float, width: float) -> None:
    from matplotlib.patches import FancyBboxPatch

    back, _ = canvas.token_colours(token.strength)
    known = math.isfinite(token.value)
    height, gap = 1.5 * _POINTS, 0.4
    box = FancyBboxPatch(
        (left + gap, top),
        max(width - 2 * gap, 0.1),
        height,
        boxstyle="round,pad=0,rounding_size=2",
        facecolor=tuple(part / 255 for part in back) if known else "white",
        edgecolor="none" if known else canvas.MUTED,
        linestyle="-" if known else ":",
        linewidth=0 if known else 0.8,
    )
    axes.add_patch(box)


def _set(axes: Axes, tokens: list[Coloured], show_values: bool, room: float) -> float:
    """Draw all tokens from the top down, in points; returns the height they take."""
    measure, small = _measure(_POINTS), _measure(_POINTS * 0.62)
    words = [drawable(shorten(token.text, _LONGEST_TOKEN)) for token in tokens]
    numbers = [short_number(token.value, sign=True, digits=2) if show_values else "" for token in tokens]
    widths = [
        max(measure(word), small(number)) + 2 * _PAD * _POINTS for word, number in zip(words, numbers, strict=True)
    ]
    places = _break_lines(widths, [token.space for token in tokens], room)
    height = _POINTS * (_LINE_WITH_VALUES if show_values else _LINE)
    font, little = _font(_POINTS), _font(_POINTS * 0.62)
    for token, word, number, width, (line, left) in zip(tokens, words, numbers, widths, places, strict=True):
        top = line * height
        _box(axes, token, left, top, width)
        _, front = canvas.token_colours(token.strength)
        colour = tuple(part / 255 for part in front)
        middle, base = left + width / 2, top + 1.1 * _POINTS
        axes.text(middle, base, word, color=colour, fontproperties=font, ha="center", va="baseline", parse_math=False)
        if number:
            axes.text(middle, top + 2.25 * _POINTS, number, color=canvas.MUTED, fontproperties=little, ha="center")
    return (places[-1][0] + 1) * height if places else height


def _scale_bar(figure: Figure, limit: float, left: float, bottom: float, width: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    wide, high = figure.get_size_inches()
    place = figure.add_axes((left / wide, bottom / high, width / wide, 0.09 / high))
    shades = [tuple(part / 255 for part in canvas.token_colours(step / 100)[0]) for step in range(-100, 101)]
    bar = figure.colorbar(
        ScalarMappable(Normalize(-limit, limit), ListedColormap(shades)), cax=place, orientation="horizontal"
    )
    bar.outline.set_visible(False)
    bar.set_ticks([-limit, 0, limit], labels=[short_number(end, sign=True) for end in (-limit, 0.0, limit)])
    bar.ax.tick_params(colors=canvas.MUTED, labelcolor=canvas.INK, labelsize=8, length=2, width=0.8, pad=2)


def text_figure(
    tokens: Sequence[str],
    values: Values,
    *,
    marker: str = "auto",
    limit: float | None = None,
    title: str | None = None,
    show_values: bool = False,
    width: float = 7.2,
) -> Figure:
    """Draw tokens in lines of text, each on the colour of its attribution.

    Characters that no installed font can draw are shown as code points; beyond 1500 tokens the rest is counted.

    Args:
        tokens: the tokenizer's own pieces, T of them, or words.
        values: ``(T,)`` attributions.
        marker: how the tokens show spaces, as in :func:`read_tokens`.
        limit: value at which the colours end; None: the largest magnitude.
        title: title of the figure.
        show_values: write the number below each token.
        width: width of the figure in inches; the height follows.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if the numbers of tokens and values differ, or ``marker`` or ``limit`` cannot be used.

    >>> figure = text_figure(["a", "good", "film"], [0.0, 0.8, 0.1])
    >>> [text.get_text() for text in figure.axes[0].texts]
    ['a', 'good', 'film']
    """
    found, end = prepare(tokens, values, marker, limit)
    shown = found[:_MOST_TOKENS]
    margin = 0.18
    figure = canvas.bare_figure((width, 1.0), None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    room = (width - 2 * margin) * 72
    text_height = _set(axes, shown, show_values, room) / 72
    above, below = (0.42 if title else margin), 0.55
    height = above + text_height + below
    figure.set_size_inches(width, height)
    axes.set_position((margin / width, below / height, 1 - 2 * margin / width, text_height / height))
    axes.set_xlim(0, room)
    axes.set_ylim(text_height * 72, 0)
    canvas.figure_heading(figure, title)
    if figure.get_suptitle():
        figure.texts[-1].set_position((margin / width, 1 - 0.12 / height))
    _scale_bar(figure, end, margin + 0.1, 0.28, 1.9)
    parts = [f"{len(found) - len(shown)} more tokens" if len(found) > len(shown) else ""]
    parts.append(canvas.missing_note(np.array([token.value for token in shown])) if shown else "no tokens")
    note = " · ".join(part for part in parts if part)
    figure.text((margin + 2.3) / width, 0.28 / height, note, fontsize=8, color=canvas.MUTED)
    return figure
