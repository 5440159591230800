"""Attributions of named features: from base value to prediction, the largest, and over many rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import as_floats, finite, names_for
from captum.attr.visualization.wording import drawable, short_number, shorten
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

    from captum.attr.visualization.arrays import Floats, Values

__all__ = ["bar_figure", "waterfall_figure"]

_ROW = 0.34  # inches
_GAP = 2.5  # points between the end of a bar and its number
_MARGIN = 0.03  # of the width, beyond the outermost bars


@dataclass(frozen=True, slots=True)
class Ranked:
    """The features to show, the largest first, and what the others add up to."""

    order: list[int]
    rest: int
    rest_value: float
    missing: int


def ranked(values: Floats, top: int) -> Ranked:
    """Rank by magnitude; values that are not finite are counted, never shown."""
    if top < 1:
        message = f"top must be at least 1; got {top}."
        raise InputError(message)
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(-np.abs(values[known]), kind="stable")]
    shown = order if order.size <= top + 1 else order[:top]
    others = order[len(shown) :]
    return Ranked(shown.tolist(), int(others.size), float(values[others].sum()), int(values.size - known.size))


def one_row(values: Values, what: str) -> Floats:
    """Attributions of one row, flat; a batch axis of 1 is dropped."""
    array = as_floats(values, what)
    if array.ndim == 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 1 or not array.size:
        message = f"{what} must be one row of features, (F,) or (1, F); got shape {array.shape}."
        raise InputError(message)
    return array


def labels_for(count: int, names: Sequence[object] | None, data: Values | Sequence[object] | None) -> list[str]:
    """``name`` or ``name = value``, short enough and drawable."""
    named = [drawable(shorten(name)) for name in names_for(count, names, "feature", "names")]
    if data is None:
        return named
    cells = np.asarray(_plain(data), dtype=object).ravel()
    if cells.size != count:
        message = f"data must have one value per feature: expected {count}, got {cells.size}."
        raise InputError(message)
    return [f"{name} = {_cell(cell)}" for name, cell in zip(named, cells.tolist(), strict=True)]


def _plain(data: object) -> object:
    from torch import Tensor

    return as_floats(data, "data") if isinstance(data, Tensor) else data


def _cell(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(bool(value))
    if isinstance(value, int | float | np.integer | np.floating):
        return short_number(float(value))
    return drawable(shorten(str(value), 20))


def _canvas(rows: int, title: str | None) -> tuple[Figure, Axes]:
    figure = canvas.bare_figure((7.2, max(1.6, 0.95 + _ROW * rows + (0.3 if title else 0))))
    axes = figure.subplots()
    canvas.tidy_axes(axes, grid=True)
    canvas.figure_heading(figure, title)
    axes.set_ylim(rows - 0.45, -0.55)
    return figure, axes


def _label_rows(axes: Axes, labels: list[str], quiet: set[int]) -> None:
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.tick_params(axis="y", length=0, pad=6)
    for index, tick in enumerate(axes.get_yticklabels()):
        tick.set_color(canvas.MUTED if index in quiet else canvas.INK)


def _write(axes: Axes, row: int, ends: tuple[float, float], text: str) -> None:
    """A number beyond the end of a bar, on the side to which the bar points."""
    start, end = ends
    right = end >= start
    number = axes.annotate(
        text,
        (end, row),
        (_GAP if right else -_GAP, 0),
        textcoords="offset points",
        ha="left" if right else "right",
        va="center",
        fontsize=8.5,
        color=canvas.INK,
    )
    number.set_in_layout(False)  # it will be inside: see _make_room


def _make_room(figure: Figure, axes: Axes, ends: Floats) -> None:
    """Set limits that hold all bars and the numbers beside them, and as many ticks as have room."""
    known = finite(ends)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if low == high:
        low, high = low - 0.25 * max(abs(low), 1.0), high + 0.25 * max(abs(high), 1.0)
    axes.set_xlim(low, high)
    figure.draw_without_rendering()
    width = axes.get_window_extent().width
    gap = 2 * _GAP * figure.dpi / 72
    numbers = [(text, min(text.get_window_extent().width + gap, 0.4 * width)) for text in _numbers(axes)]
    lefts = [(text.xy[0], room) for text, room in numbers if text.get_horizontalalignment() == "right"]
    rights = [(text.xy[0], room) for text, room in numbers if text.get_horizontalalignment() == "left"]
    left, right = low, high
    for _ in range(30):  # wider limits make a number wider in their units
        unit = (right - left) / width
        left = min([low - _MARGIN * width * unit, *(at - room * unit for at, room in lefts)])
        right = max([high + _MARGIN * width * unit, *(at + room * unit for at, room in rights)])
    axes.set_xlim(left, right)
    widest = max((label.get_window_extent().width for label in axes.get_xticklabels()), default=0.0)
    room = int(width / (1.25 * widest)) if widest else 9
    if room < len(axes.get_xticklabels()):
        axes.locator_params(axis="x", nbins=max(room, 1))


def _numbers(axes: Axes) -> list[Annotation]:
    from matplotlib.text import Annotation

    return [text for text in axes.texts if isinstance(text, Annotation)]


def _colour(value: float) -> str:
    return canvas.POSITIVE if value >= 0 else canvas.NEGATIVE


def _draw_bar(axes: Axes, row: int, ends: tuple[float, float], colour: str, *, hatched: bool = False) -> None:
    start, end = ends
    if hatched:
        axes.barh(
            row, end - start, left=start, height=0.62, color="white", edgecolor=colour, hatch="////", linewidth=0.8
        )
    else:
        axes.barh(row, end - start, left=start, height=0.62, color=colour, linewidth=0)
    if end == start:
        axes.plot([start, start], [row - 0.31, row + 0.31], color=colour, linewidth=1.5)


def _footnote(axes: Axes, missing: int, further: str = "") -> None:
    parts = [further, f"{missing} feature{'s' * (missing > 1)} not finite, left out" if missing else ""]
    note = " · ".join(part for part in parts if part)
    if note:
        axes.annotate(
            note, (0, 0), (0, -34), xycoords="axes fraction", textcoords="offset points", fontsize=8, color=canvas.MUTED
        )


def _others(count: int) -> str:
    return f"{count} other features"


def waterfall_figure(
    values: Values,
    names: Sequence[object] | None = None,
    data: Values | Sequence[object] | None = None,
    *,
    base: float = 0.0,
    prediction: float | None = None,
    top: int = 12,
    title: str | None = None,
    output: str = "score",
    residual: str = "not explained (residual)",
) -> Figure:
    r"""Draw how the features of one row lead from a base value to the prediction.

    .. math:: f(x) = \text{base} + \sum_i a_i + \text{residual}

    Args:
        values: ``(F,)`` or ``(1, F)`` attributions.
        names: F feature names.
        data: F feature values, written beside the names; numbers, strings or a tensor.
        base: where the sum starts: the score of the baseline.
        prediction: the score of the row; what the attributions miss of it becomes a row of its own. None: their sum.
        top: how many features are shown; the others become one row.
        title: title of the figure.
        output: what the horizontal axis counts.
        residual: what the row is called that holds what the attributions miss.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if there is more than one row, or the numbers of names or data differ from F.

    >>> figure = waterfall_figure([0.5, -0.2], ["age", "income"], base=0.1)
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['base value', 'age', 'income', 'prediction']
    """
    row = one_row(values, "values")
    labels, chosen = labels_for(row.size, names, data), ranked(row, top)
    steps = [(labels[index], float(row[index]), False) for index in chosen.order]
    if chosen.rest:
        steps.append((_others(chosen.rest), chosen.rest_value, False))
    reached = float(base) + float(finite(row).sum())
    final = reached if prediction is None else float(prediction)
    scale = max(abs(float(base)), abs(final), float(np.abs(finite(row)).max(initial=0.0)), 1e-300)
    if abs(final - reached) > 1e-4 * scale:
        steps.append((residual, final - reached, True))
    figure, axes = _canvas(len(steps) + 2, title)
    points = float(base) + np.cumsum([0.0] + [value for _, value, _ in steps])
    for position, (_, value, hatched) in enumerate(steps):
        ends = (float(points[position]), float(points[position + 1]))
        _draw_bar(axes, position + 1, ends, _colour(value), hatched=hatched)
        _write(axes, position + 1, ends, short_number(value, sign=True))
        below = position + (1.31 if position + 1 < len(steps) else 1.4)
        axes.plot([ends[1]] * 2, [below, position + 1.69], color=canvas.MUTED, linewidth=0.8)
    last = len(steps) + 1
    for position, value in ((0, float(base)), (last, final)):
        axes.plot([value] * 2, [position - 0.31, position + 0.31], color=canvas.INK, linewidth=2.2)
        shown = value if abs(value) > 1e-6 * scale else 0.0  # what rounding leaves of nothing
        _write(axes, position, (value, value), short_number(shown, digits=4))
    axes.plot([float(base)] * 2, [0.31, 0.69], color=canvas.MUTED, linewidth=0.8)
    quiet = {
        index + 1 for index, step in enumerate(steps) if step[2] or (chosen.rest and step[0] == _others(chosen.rest))
    }
    _label_rows(axes, ["base value", *[step[0] for step in steps], "prediction"], quiet)
    axes.set_xlabel(drawable(shorten(output, 60)), fontsize=9, color=canvas.INK, parse_math=False)
    _make_room(figure, axes, np.array(points))
    _footnote(axes, chosen.missing)
    return figure


def bar_figure(
    values: Values,
    names: Sequence[object] | None = None,
    data: Values | Sequence[object] | None = None,
    *,
    top: int = 15,
    title: str | None = None,
    output: str | None = None,
) -> Figure:
    """Draw the largest attributions as bars, blue to the left and orange to the right.

    Args:
        values: ``(F,)``, or ``(N, F)``: then the mean magnitude over the rows is drawn.
        names: F feature names.
        data: F feature values, written beside the names; for a single row only.
        top: how many features are shown; the others become one row with their sum.
        title: title of the figure.
        output: what the horizontal axis counts; by default ``attribution`` or ``mean |attribution|``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if the shape is not one of these, or the numbers of names or data differ from F.

    >>> [label.get_text() for label in bar_figure([0.1, -2.0], ["age", "income"]).axes[0].get_yticklabels()]
    ['income', 'age']
    """
    array = as_floats(values, "values")
    rows = array.shape[0] if array.ndim == 2 else 1
    if rows > 1:
        known = np.isfinite(array)
        magnitudes = np.where(known, np.abs(array), 0.0).sum(axis=0)
        row = np.where(known.any(axis=0), magnitudes / np.maximum(known.sum(axis=0), 1), np.nan)
        labels = labels_for(row.size, names, None)
    else:
        row = one_row(array, "values")
        labels = labels_for(row.size, names, data)
    chosen = ranked(row, top)
    shown = [(labels[index], float(row[index])) for index in chosen.order]
    if chosen.rest:
        shown.append((_others(chosen.rest), chosen.rest_value))
    figure, axes = _canvas(max(len(shown), 1), title)
    ends = [0.0, *[value for _, value in shown]]
    longest = 1.15 * float(np.abs(row[chosen.order]).max(initial=0.0))
    cut = bool(chosen.rest and abs(ends[-1]) > 2 * longest > 0)
    if cut:
        ends[-1] = math.copysign(longest, ends[-1])
    for position, (_, value) in enumerate(shown):
        rest = bool(chosen.rest) and position == len(shown) - 1
        reach = (0.0, ends[position + 1])
        _draw_bar(axes, position, reach, _colour(value), hatched=rest)
        _write(axes, position, reach, short_number(value, sign=rows == 1) + " (bar cut)" * (rest and cut))
    axes.axvline(0, color=canvas.MUTED, linewidth=0.8)
    _label_rows(axes, [label for label, _ in shown], {len(shown) - 1} if chosen.rest else set())
    label = output or (f"mean |attribution| over {rows} rows" if rows > 1 else "attribution")
    axes.set_xlabel(drawable(shorten(label, 60)), fontsize=9, color=canvas.INK, parse_math=False)
    _make_room(figure, axes, np.array(ends))
    _footnote(axes, chosen.missing)
    return figure
