"""Attributions of one time series, behind its lines or as their colour."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import as_floats, choose, finite, names_for, summed
from captum.attr.visualization.places import as_places
from captum.attr.visualization.scaling import VisualizeSign, normalize_attributions
from captum.errors import CaptumWarning, InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from captum.attr.visualization.arrays import Floats, Values
    from captum.attr.visualization.places import Moments, Places

__all__ = ["TimeseriesVisualizationMethod", "visualize_timeseries_attr"]


class TimeseriesVisualizationMethod(Enum):
    """How a series and its attributions are put together: the functions take the *names* as strings."""

    overlay_individual = 1
    overlay_combined = 2
    colored_graph = 3


_Drawn = TypeVar("_Drawn")
_Method = TimeseriesVisualizationMethod


@dataclass(frozen=True, slots=True)
class _Series:
    """A series (steps, channels), where its steps lie, and what its colours are."""

    data: Floats
    x: Floats
    scaled: Floats
    labels: list[str] | None
    colours: Colormap
    low: float

    def colour(self, value: float) -> tuple[float, float, float, float]:
        red, green, blue, alpha = self.colours((value - self.low) / (1 - self.low))
        return float(red), float(green), float(blue), float(alpha)


def as_series(values: Values, channels_last: bool, what: str) -> Floats:
    """One series as (steps, channels)."""
    array = as_floats(values, what)
    if array.ndim == 3 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2 or array.size == 0:
        form = "(N, C)" if channels_last else "(C, N)"
        message = (
            f"{what} must be one series {form}, optionally with a leading batch axis of size 1; got {array.shape}."
        )
        raise InputError(message)
    return array if channels_last else array.T


def step_edges(x: Floats) -> tuple[Floats, Floats]:
    """Where the cell of each step begins and ends: half-way to its neighbours, 1 wide where there is only one step."""
    if x.size == 1:
        return x - 0.5, x + 0.5
    order = np.argsort(x, kind="stable")
    ordered = x[order]
    middles = (ordered[1:] + ordered[:-1]) / 2
    borders = np.concatenate([[2 * ordered[0] - middles[0]], middles, [2 * ordered[-1] - middles[-1]]])
    start, end = np.empty_like(x), np.empty_like(x)
    start[order], end[order] = borders[:-1], borders[1:]
    return start, end


def padded_limits(values: Floats) -> tuple[float, float]:
    """Limits that leave room around the values: a fifth beyond each end if they lie around 0, else of their range."""
    known = finite(values)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    if low < 0 < high:
        return 1.2 * low, 1.2 * high
    room = 0.2 * (high - low) or 0.2 * abs(high) or 1.0
    return low - room, high + room


def point_pieces(x: Floats, y: Floats) -> list[npt.NDArray[np.float64]]:
    """One piece of the line per step: from half-way after the last step over the step to half-way before the next."""
    points = np.column_stack([x, y])
    middles = (points[1:] + points[:-1]) / 2
    before = np.concatenate([points[:1], middles])
    after = np.concatenate([middles, points[-1:]])
    return list(np.stack([before, points, after], axis=1))


def _read(
    attr: Values,
    data: Values,
    x_values: Moments | None,
    channel_labels: Sequence[str] | None,
    channels_last: bool,
) -> tuple[Floats, Floats, Places, list[str] | None]:
    values, series = as_series(attr, channels_last, "attr"), as_series(data, channels_last, "data")
    if values.shape != series.shape:
        message = f"attr and data must have the same shape; got {values.shape} and {series.shape} as (steps, channels)."
        raise InputError(message)
    steps, channels = series.shape
    if channels > steps:
        message = (
            f"The series has more channels ({channels}) than steps ({steps}); "
            f"if they are the other way round, pass channels_last={not channels_last}."
        )
        warnings.warn(message, CaptumWarning, stacklevel=4)
    places = as_places(x_values, steps, "x_values")
    labels = None if channel_labels is None else names_for(channels, channel_labels, "channel", "channel_labels")
    return values, series, places, labels


def _axes_for(
    given: tuple[Figure, Axes | Sequence[Axes] | npt.NDArray[np.object_]] | None,
    count: int,
    fig_size: tuple[float, float],
    use_pyplot: bool,
) -> tuple[Figure, list[Axes]]:
    if given is None:
        figure = canvas.open_figure(fig_size, use_pyplot)
        return figure, list(figure.subplots(count, 1, sharex=True, squeeze=False)[:, 0])
    from matplotlib.axes import Axes

    figure, axes = given
    found: list[Axes] = [axes] if isinstance(axes, Axes) else list(np.ravel(np.asarray(axes, dtype=object)))
    if len(found) != count:
        message = f"plt_fig_axis must bring one axes per plot: expected {count}, got {len(found)}."
        raise InputError(message)
    return figure, found


def _spans(axes: Axes, series: _Series, strengths: Floats, alpha: float) -> None:
    """Colour the background of each step, from the bottom to the top of the axes."""
    from matplotlib.patches import Rectangle

    across = axes.get_xaxis_transform()
    starts, ends = step_edges(series.x)
    for start, end, value in zip(starts.tolist(), ends.tolist(), strengths.tolist(), strict=True):
        if np.isfinite(value):
            span = Rectangle((start, 0), end - start, 1, transform=across, alpha=alpha, linewidth=0)
            span.set_facecolor(series.colour(value))
            axes.add_patch(span)
    axes.update_datalim([(float(starts.min()), 0.0), (float(ends.max()), 0.0)], updatey=False)
    axes.autoscale_view(scaley=False)


def _overlay(axes: Axes, series: _Series, channel: int, alpha: float, options: dict[str, object]) -> None:
    _line(axes, series, channel, options)
    _spans(axes, series, series.scaled[:, channel], alpha)


def _with_options(draw: Callable[..., _Drawn], *arguments: object, **options: object) -> _Drawn:
    """Call a function of matplotlib with options that only it can judge."""
    return draw(*arguments, **options)


def _line(axes: Axes, series: _Series, channel: int, options: dict[str, object]) -> None:
    marker = {"marker": "o"} if series.x.size == 1 else {}
    _with_options(axes.plot, series.x, series.data[:, channel], **{**marker, **options})


def _combined(axes: Axes, series: _Series, alpha: float, options: dict[str, object]) -> None:
    from matplotlib import colormaps

    palette = colormaps["Dark2"]
    for channel in range(series.data.shape[1]):
        named = {"color": palette(channel % 8)} | ({"label": series.labels[channel]} if series.labels else {})
        _line(axes, series, channel, {**named, **options})
    _spans(axes, series, series.scaled[:, 0], alpha)
    if series.labels:
        axes.legend(loc="best")


def _coloured(axes: Axes, series: _Series, channel: int, options: dict[str, object]) -> None:
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    y, strengths = series.data[:, channel], series.scaled[:, channel]
    norm = Normalize(series.low, 1)
    named: dict[str, object] = {"cmap": series.colours, "norm": norm}
    lines = _with_options(LineCollection, point_pieces(series.x, y), **{**named, **options})
    lines.set_array(strengths)
    axes.add_collection(lines)
    if series.x.size == 1:
        axes.scatter(series.x, y, c=strengths, cmap=series.colours, norm=norm)
    margin = 0.05 * float(np.ptp(series.x)) or 0.5
    axes.set_xlim(float(series.x.min()) - margin, float(series.x.max()) + margin)
    axes.set_ylim(*padded_limits(y))


def _colour_bar(figure: Figure, axes: Axes, series: _Series) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    mappable = ScalarMappable(Normalize(series.low, 1), series.colours)
    bar = figure.colorbar(mappable, cax=canvas.strip_below(axes, pad=0.4), orientation="horizontal")
    bar.outline.set_visible(False)


def visualize_timeseries_attr(
    attr: Values,
    data: Values,
    x_values: Moments | None = None,
    method: str = "overlay_individual",
    sign: str = "absolute_value",
    channel_labels: Sequence[str] | None = None,
    channels_last: bool = True,
    plt_fig_axis: tuple[Figure, Axes | Sequence[Axes] | npt.NDArray[np.object_]] | None = None,
    outlier_perc: float = 2,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.7,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] = (6, 6),
    use_pyplot: bool = True,
    **pyplot_kwargs: object,
) -> tuple[Figure, Axes | npt.NDArray[np.object_]]:
    """Draw the attributions of one time series, normalised as by :func:`visualize_image_attr` over all channels.

    Args:
        attr: ``(N, C)``, or ``(C, N)`` with ``channels_last=False``; tensor or array; a batch axis of 1 is dropped.
        data: the series itself, of the same shape.
        x_values: ``(N,)``, where the steps lie: numbers, or moments such as ``datetime`` objects and ``datetime64``
            arrays; by default 0 to N − 1.
        method: ``"overlay_individual"`` (one plot per channel, attributions behind the line), ``"overlay_combined"``
            (one plot, attributions summed over the channels) or ``"colored_graph"`` (lines coloured by attribution).
        sign: ``"positive"``, ``"absolute_value"``, ``"negative"`` or ``"all"``.
        channel_labels: one name per channel.
        channels_last: whether the last axis holds the channels.
        plt_fig_axis: a figure and its axes (one per plot) to draw into instead of new ones.
        outlier_perc: percent of the attribution mass beyond the end of the colour scale, 0 to 100.
        cmap: colour map or its name; by default green, blue, red for the three parts and red-white-green for all.
        alpha_overlay: opacity of the attributions behind the lines.
        show_colorbar: draw a colour bar below.
        title: title above the first plot.
        fig_size: width and height of a new figure, in inches.
        use_pyplot: open the figure through pyplot and call ``plt.show()``; else pyplot never learns of it.
        **pyplot_kwargs: passed to the lines, ``linewidth=3`` for example.

    Returns:
        The figure and its axes: one ``Axes`` for one plot, else an array of them; as given with ``plt_fig_axis``.

    Raises:
        InputError: for unknown names (the choices are listed), shapes, lengths or numbers of axes that do not fit.

    Warns:
        CaptumWarning: if there are more channels than steps.
    """
    chosen, part = choose(_Method, method, "method"), choose(VisualizeSign, sign, "sign")
    values, series, places, labels = _read(attr, data, x_values, channel_labels, channels_last)
    combined = chosen is _Method.overlay_combined
    scaled = normalize_attributions(summed(values, 1, keepdims=True) if combined else values, part, outlier_perc)
    colours = canvas.named_map(cmap) if cmap is not None else canvas.sign_map(part)
    low = -1.0 if part is VisualizeSign.all else 0.0
    ready = _Series(series, places.x, scaled, labels, colours, low)
    figure, plots = _axes_for(plt_fig_axis, 1 if combined else series.shape[1], fig_size, use_pyplot)
    if combined:
        _combined(plots[0], ready, alpha_overlay, pyplot_kwargs)
    else:
        for channel, axes in enumerate(plots):
            if chosen is _Method.overlay_individual:
                _overlay(axes, ready, channel, alpha_overlay, pyplot_kwargs)
            else:
                _coloured(axes, ready, channel, pyplot_kwargs)
            if labels:
                axes.set_ylabel(labels[channel])
    for axes in plots:
        places.mark(axes.xaxis)
    if show_colorbar:
        _colour_bar(figure, plots[-1], ready)
    if title:
        plots[0].set_title(title)
    canvas.show(use_pyplot)
    if plt_fig_axis is not None and isinstance(plt_fig_axis[1], np.ndarray):
        return figure, plt_fig_axis[1]
    return figure, plots[0] if len(plots) == 1 else np.array(plots, dtype=object)
