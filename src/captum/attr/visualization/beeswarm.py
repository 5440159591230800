"""Attributions of many rows: one dot per row and feature, coloured by the feature's value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import Floats, Values, as_floats, as_numpy, finite, names_for
from captum.attr.visualization.wording import drawable, shorten
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["beeswarm_figure"]

_ROW = 0.42  # inches
_MOST_DOTS = 4000  # per feature; more add ink, not shape


def _feature_values(data: Values | None, shape: tuple[int, ...]) -> Floats | None:
    """Feature values as numbers, (N, F); a column of words becomes the places of the words in sorted order."""
    if data is None:
        return None
    array = as_numpy(data, "data")
    if array.shape != shape:
        message = f"data must have the shape of values; expected {shape}, got {array.shape}."
        raise InputError(message)
    if array.dtype.kind in "biuf":
        return array.astype(np.float64)
    return np.column_stack([_column(array[:, index]) for index in range(shape[1])])


def _column(column: object) -> Floats:
    cells = np.asarray(column)
    try:
        return cells.astype(np.float64)
    except (TypeError, ValueError):
        _, places = np.unique(cells.astype(str), return_inverse=True)
        return places.astype(np.float64)


def _relative(column: Floats) -> Floats:
    """Feature values from 0 (low) to 1 (high), between the 5th and 95th percentile; NaN stays NaN."""
    known = finite(column)
    if not known.size:
        return np.full_like(column, np.nan)
    low, high = (float(end) for end in np.percentile(known, [5, 95]))
    if low == high:
        low, high = float(known.min()), float(known.max())
    if low == high:
        return np.where(np.isfinite(column), 0.5, np.nan)
    return np.where(np.isnan(column), np.nan, np.clip((column - low) / (high - low), 0, 1))


def _heights(values: Floats, width: float) -> Floats:
    """Offsets in [-0.4, 0.4] that spread dots of one feature by how many share their place."""
    cells = np.floor(values / (width / 90)) if width > 0 else np.zeros_like(values)
    order = np.lexsort((np.arange(values.size) * 7919 % max(values.size, 1), cells))
    _, starts, counts = np.unique(cells[order], return_index=True, return_counts=True)
    rank = np.arange(values.size) - np.repeat(starts, counts)
    centred = rank - (np.repeat(counts, counts) - 1) / 2
    offsets = np.empty_like(values)
    offsets[order] = centred * min(0.09, 0.8 / max(int(counts.max(initial=1)), 1))
    return offsets


def _dots(axes: Axes, row: int, values: Floats, colours: Floats | None, width: float) -> None:
    known = np.flatnonzero(np.isfinite(values))
    if known.size > _MOST_DOTS:  # every k-th of the sorted values keeps the shape, the first and the last
        order = known[np.argsort(values[known], kind="stable")]
        known = order[np.unique(np.linspace(0, order.size - 1, _MOST_DOTS).astype(np.int64))]
    if not known.size:
        return
    shown = values[known]
    if colours is None:
        paint = canvas.diverging_map()(np.where(shown >= 0, 0.8, 0.2))
    else:
        paint = canvas.value_map()(np.ma.masked_invalid(colours[known]))
    size = 16 if known.size <= 500 else 9
    heights = row + _heights(shown, width)
    axes.scatter(shown, heights, s=size, c=paint, linewidths=0, alpha=0.85, rasterized=known.size > 500, zorder=3)


def _value_bar(axes: Axes) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    bar = canvas.colour_bar(ScalarMappable(Normalize(0, 1), canvas.value_map()), axes, "feature value")
    bar.set_ticks([0, 1], labels=["low", "high"])


def beeswarm_figure(
    values: Values,
    names: Sequence[object] | None = None,
    data: Values | None = None,
    *,
    top: int = 12,
    title: str | None = None,
    output: str = "attribution",
) -> Figure:
    """Draw the attributions of many rows, one line of dots per feature, the largest mean magnitude first.

    Args:
        values: ``(N, F)`` attributions.
        names: F feature names.
        data: ``(N, F)`` feature values, which colour the dots from low to high between the 5th and 95th percentile of
            each feature; words are ranked by their sorting. None: the dots are coloured by sign.
        top: how many features are shown; the sum of the others becomes one line.
        title: title of the figure.
        output: what the horizontal axis counts.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if values are not two-dimensional, or data or names do not fit them.

    >>> figure = beeswarm_figure([[0.1, -2.0], [0.3, 1.0]], ["age", "income"])
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['income', 'age']
    """
    array = as_floats(values, "values")
    if array.ndim != 2 or not array.size:
        message = f"values must be (N, F), rows by features; got shape {array.shape}."
        raise InputError(message)
    if top < 1:
        message = f"top must be at least 1; got {top}."
        raise InputError(message)
    labels = names_for(array.shape[1], names, "feature", "names")
    table = _feature_values(data, array.shape)
    known = np.where(np.isfinite(array), array, 0.0)
    order = np.argsort(-np.abs(known).mean(axis=0), kind="stable")
    shown = (order if order.size <= top + 1 else order[:top]).tolist()
    others = order[len(shown) :]
    lines = [(labels[index], array[:, index], None if table is None else _relative(table[:, index])) for index in shown]
    if others.size:
        unknown = None if table is None else np.full(array.shape[0], np.nan)
        lines.append((f"sum of {others.size} other features", known[:, others].sum(axis=1), unknown))
    figure = canvas.bare_figure((7.2, 0.95 + _ROW * len(lines) + (0.3 if title else 0)))
    axes = figure.subplots()
    canvas.tidy_axes(axes, grid=True)
    canvas.figure_heading(figure, title)
    ends = finite(np.concatenate([one for _, one, _ in lines]))
    low, high = (min(0.0, float(ends.min())), max(0.0, float(ends.max()))) if ends.size else (0.0, 0.0)
    width = high - low or 1.0
    axes.set_xlim(low - 0.05 * width, high + 0.05 * width)
    axes.set_ylim(len(lines) - 0.45, -0.55)
    axes.axvline(0, color=canvas.MUTED, linewidth=0.8)
    for position, (_, one, colours) in enumerate(lines):
        axes.axhline(position, color=canvas.RULE, linewidth=0.6, zorder=1)
        _dots(axes, position, one, colours, width)
    axes.set_yticks(range(len(lines)), [drawable(shorten(name)) for name, _, _ in lines], parse_math=False)
    axes.tick_params(axis="y", length=0, pad=6)
    if others.size:
        axes.get_yticklabels()[-1].set_color(canvas.MUTED)
    rows = f"{array.shape[0]} row{'s' * (array.shape[0] > 1)}"
    label = " · ".join(part for part in (drawable(shorten(output, 60)), rows, canvas.missing_note(array)) if part)
    axes.set_xlabel(label, fontsize=9, color=canvas.INK, parse_math=False)
    if table is not None:
        _value_bar(axes)
    return figure
