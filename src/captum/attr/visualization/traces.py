"""A time series whose lines carry their attributions: channel by channel, with numbers on the colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import as_floats, names_for
from captum.attr.visualization.places import as_places
from captum.attr.visualization.scaling import symmetric_limit
from captum.attr.visualization.timeseries import as_series, padded_limits, point_pieces, step_edges
from captum.attr.visualization.wording import drawable, shorten
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from captum.attr.visualization.arrays import Floats, Values
    from captum.attr.visualization.places import Moments

__all__ = ["series_figure"]

_MOST_LINES = 10
_STYLES = ("auto", "line", "strip")


def _mappable(values: Floats, outlier_perc: float) -> tuple[ScalarMappable, str]:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    limit = symmetric_limit(values, outlier_perc)
    known = np.abs(values[np.isfinite(values)])
    extend = "both" if known.size and float(known.max()) > limit else "neither"
    return ScalarMappable(Normalize(-limit, limit), canvas.diverging_map()), extend


def _edges(x: Floats) -> Floats:
    """Borders of the cells of sorted steps."""
    start, end = step_edges(x)
    return np.append(start, end[-1])


def _strip(axes: Axes, x: Floats, values: Floats, mappable: ScalarMappable, rows: Floats) -> None:
    """Cells coloured by attribution; ``values`` is (rows, steps), NaN grey."""
    mesh = axes.pcolormesh(_edges(x), rows, np.ma.masked_invalid(values), cmap=mappable.cmap)
    mesh.set_clim(*mappable.get_clim())
    mesh.set_rasterized(values.size > 2000)
    axes.set_facecolor(canvas.UNKNOWN)


def _highlight(axes: Axes, x: Floats, y: Floats, values: Floats, mappable: ScalarMappable) -> None:
    """A thin dark line over a broad one in the colours of the attributions."""
    from matplotlib.collections import LineCollection

    colours = mappable.to_rgba(np.ma.masked_invalid(values))
    broad = LineCollection(
        point_pieces(x, y), colors=colours, linewidths=6.5, capstyle="butt", joinstyle="round", zorder=2
    )
    axes.add_collection(broad, autolim=False)
    single = x.size == 1
    axes.plot(x, y, color=canvas.INK, linewidth=0.9, zorder=3, marker="o" if single else "", markersize=4)
    if single:
        axes.scatter(x, y, s=160, color=colours, zorder=1)
    axes.set_ylim(*padded_limits(y))


def _lines(
    figure: Figure, series: Floats, values: Floats, x: Floats, labels: list[str], mappable: ScalarMappable
) -> Axes:
    """Two axes per channel: the line, and a slim strip with the same colours below it."""
    channels = series.shape[1]
    grid = figure.subplots(2 * channels, 1, sharex=True, squeeze=False, height_ratios=[9, 1] * channels)[:, 0]
    for channel in range(channels):
        axes, strip = grid[2 * channel], grid[2 * channel + 1]
        canvas.tidy_axes(axes, spines=("left",))
        axes.tick_params(axis="x", length=0, labelbottom=False)
        canvas.sparse_ticks(axes.yaxis, 4)
        _highlight(axes, x, series[:, channel], values[:, channel], mappable)
        canvas.heading(axes, labels[channel], size=9.5)
        canvas.tidy_axes(strip, spines=())
        _strip(strip, x, values[:, channel][None], mappable, np.array([0.0, 1.0]))
        strip.set_yticks([])
        strip.tick_params(axis="x", length=0, labelbottom=False)
    last: Axes = grid[-1]
    last.tick_params(axis="x", length=3, labelbottom=True)
    return last


def _map(figure: Figure, values: Floats, x: Floats, labels: list[str], mappable: ScalarMappable) -> Axes:
    """One strip per channel, all in one picture."""
    axes = figure.subplots()
    canvas.tidy_axes(axes, spines=())
    channels = values.shape[1]
    _strip(axes, x, values.T, mappable, np.arange(channels + 1) - 0.5)
    axes.set_ylim(channels - 0.5, -0.5)
    shown = range(0, channels, -(-channels // 24))
    axes.set_yticks(shown, [labels[index] for index in shown], parse_math=False)
    axes.tick_params(axis="y", length=0)
    return axes


def series_figure(
    values: Values,
    data: Values | None = None,
    *,
    x: Moments | None = None,
    names: Sequence[object] | None = None,
    channels_last: bool = True,
    style: str = "auto",
    outlier_perc: float = 0,
    title: str | None = None,
    x_label: str | None = None,
) -> Figure:
    """Draw a time series with its attributions, blue for negative and orange for positive, on one scale.

    Args:
        values: ``(T, C)`` attributions, or ``(C, T)`` with ``channels_last=False``; ``(T,)`` for one channel; a batch
            axis of 1 is dropped.
        data: the series, of the same shape; without it only the attributions are drawn.
        x: ``(T,)``, where the steps lie: numbers, or moments such as ``datetime`` objects and ``datetime64`` arrays;
            by default 0 to T − 1.
        names: C channel names.
        channels_last: whether the last axis holds the channels.
        style: ``"line"`` (each channel's line on a band of colour), ``"strip"`` (channels by steps, colours only) or
            ``"auto"``: lines for up to 10 channels whose data are given.
        outlier_perc: percent of the attribution mass beyond the end of the colour scale, 0 to 100.
        title: title of the figure.
        x_label: what the horizontal axis counts; by default ``step``, or ``time``.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if the shapes, the lengths of ``x`` or ``names``, or the style do not fit.

    >>> figure = series_figure([[0.1], [-0.2], [0.4]], [[1.0], [2.0], [1.5]], names=["heart rate"])
    >>> figure.axes[0].get_title(loc="left")
    'heart rate'
    """
    if style not in _STYLES or (style == "line" and data is None):
        message = f"style must be one of {', '.join(_STYLES)}, and 'line' needs data; got {style!r}."
        raise InputError(message)
    attributions = _read(values, channels_last, "values")
    series = None if data is None else _read(data, channels_last, "data")
    if series is not None and series.shape != attributions.shape:
        message = f"values and data must have the same shape; got {attributions.shape} and {series.shape}."
        raise InputError(message)
    steps, channels = attributions.shape
    places = as_places(x, steps, "x")
    order = np.argsort(places.x, kind="stable")
    labels = [drawable(shorten(name, 30)) for name in names_for(channels, names, "channel", "names")]
    mappable, extend = _mappable(attributions, outlier_perc)
    with_lines = style == "line" or (style == "auto" and channels <= _MOST_LINES)
    if series is not None and with_lines:
        figure = canvas.bare_figure((8.0, 0.9 + 1.35 * channels + (0.3 if title else 0)))
        last = _lines(figure, series[order], attributions[order], places.x[order], labels, mappable)
        holders = figure.axes[: 2 * channels]
    else:
        figure = canvas.bare_figure((8.0, 1.1 + min(max(0.24 * channels, 0.5), 7.0) + (0.3 if title else 0)))
        last = _map(figure, attributions[order], places.x[order], labels, mappable)
        holders = [last]
    if x is None:
        canvas.whole_ticks(last.xaxis)
    places.mark(last.xaxis)
    note = canvas.missing_note(attributions)
    counted = ("time" if places.dated else "step") if x_label is None else x_label
    label = " · ".join(part for part in (drawable(shorten(counted, 60)), note) if part)
    last.set_xlabel(label, fontsize=9, color=canvas.INK, parse_math=False)
    canvas.side_bar(mappable, holders, "attribution", extend=extend)
    canvas.figure_heading(figure, title)
    return figure


def _read(values: Values, channels_last: bool, what: str) -> Floats:
    array = as_floats(values, what)
    return as_series(array[:, None] if array.ndim == 1 else array, channels_last or array.ndim == 1, what)
