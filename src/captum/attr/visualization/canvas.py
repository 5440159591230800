"""Figures and colours: everything that touches matplotlib's own set-up.

matplotlib is imported inside functions only. No function here reads or changes its global state, except
:func:`open_figure` when pyplot is asked for by the caller.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Literal

import numpy as np

from captum.attr.visualization.arrays import finite
from captum.attr.visualization.scaling import VisualizeSign
from captum.attr.visualization.wording import drawable, shorten
from captum.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.colorbar import Colorbar
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

    from captum.attr.visualization.arrays import Floats

__all__ = ["INK", "MUTED", "NEGATIVE", "POSITIVE", "RULE", "bare_figure", "diverging_map", "open_figure", "tidy_axes"]

INK = "#22262b"
MUTED = "#6b7280"
RULE = "#d4d7dc"
POSITIVE = "#d9600a"
NEGATIVE = "#2171b5"
UNKNOWN = "#c9ccd1"

_BLUES = ("#0b4a8f", "#2171b5", "#4f97cb", "#85b8dc", "#b9d5ea", "#dfeaf4")
_ORANGES = ("#fbe6d5", "#fbcba2", "#f6a566", "#ea7f30", "#d2600a", "#9c3f06")
_WHITE = "#f8f8f8"
_READABLE = 4.5  # contrast of small text (WCAG 2.2); on any background black or white reaches it


def bare_figure(
    size: tuple[float, float], layout: Literal["constrained", "compressed"] | None = "constrained"
) -> Figure:
    """A white figure that pyplot does not know of: it is never shown, and dies with its last reference."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure


def open_figure(size: tuple[float, float], use_pyplot: bool) -> Figure:
    """A figure in the user's style: through pyplot, or a bare one that pyplot does not know of."""
    if use_pyplot:
        from matplotlib import pyplot as plt

        return plt.figure(figsize=size)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size)
    FigureCanvasAgg(figure)
    return figure


def show(use_pyplot: bool) -> None:
    """What ``use_pyplot=True`` asks for; otherwise nothing."""
    if use_pyplot:
        from matplotlib import pyplot as plt

        plt.show()


# ---- colours -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def diverging_map() -> Colormap:
    """Blue (negative) over near-white (0) to orange (positive): safe for red-green blindness, equally dark ends."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("captum_diverging", [*_BLUES, _WHITE, *_ORANGES], N=511)
    return colours.with_extremes(bad=UNKNOWN)


@lru_cache(maxsize=1)
def positive_map() -> Colormap:
    """The positive half of :func:`diverging_map`, for maps without negative values."""
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("captum_positive", [_WHITE, *_ORANGES], N=256)
    return colours.with_extremes(bad=UNKNOWN)


@lru_cache(maxsize=1)
def value_map() -> Colormap:
    """Low to high feature values; no hue of :func:`diverging_map` stands for the same thing here."""
    from matplotlib import colormaps
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("captum_values", colormaps["viridis"](np.linspace(0.0, 0.93, 64)))
    return colours.with_extremes(bad=UNKNOWN)


@lru_cache(maxsize=1)
def _red_white_green() -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("RdWhGn", ["red", "white", "green"])


_SIGN_MAPS = {
    VisualizeSign.positive: "Greens",
    VisualizeSign.negative: "Reds",
    VisualizeSign.absolute_value: "Blues",
}


def sign_map(sign: VisualizeSign) -> Colormap:
    """The colours of the ``visualize_*`` functions, where none are asked for."""
    return _red_white_green() if sign is VisualizeSign.all else named_map(_SIGN_MAPS[sign])


def named_map(cmap: str | Colormap) -> Colormap:
    """A colour map by name or as itself."""
    from matplotlib import colormaps
    from matplotlib.colors import Colormap

    if isinstance(cmap, Colormap):
        return cmap
    try:
        return colormaps[str(cmap)]
    except KeyError as error:
        message = f"cmap must be a matplotlib colormap or the name of one (matplotlib.colormaps); got {cmap!r}."
        raise InputError(message) from error


def _channel(text: str) -> tuple[int, int, int]:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def token_colours(strength: float) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Background and text colour (0..255) for a strength in [-1, 1], readable on each other; needs no matplotlib."""
    stops = [_channel(stop) for stop in ("#ffffff", *(_ORANGES if strength >= 0 else _BLUES[::-1]))][:-1]
    place = min(abs(strength), 1.0) * (len(stops) - 1)
    index = min(int(place), len(stops) - 2)
    share = place - index
    mixed = [round(a + (b - a) * share) for a, b in zip(stops[index], stops[index + 1], strict=True)]
    background = (mixed[0], mixed[1], mixed[2])
    texts = (_channel(INK), (255, 255, 255), (0, 0, 0))
    return background, next(text for text in texts if _contrast(background, text) >= _READABLE)


def _luminance(colour: Iterable[int]) -> float:
    linear = [(c / 255 / 12.92) if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _contrast(one: Iterable[int], other: Iterable[int]) -> float:
    dark, light = sorted((_luminance(one), _luminance(other)))
    return (light + 0.05) / (dark + 0.05)


# ---- axes --------------------------------------------------------------------------------------------------------


def tidy_axes(axes: Axes, *, spines: Iterable[str] = ("bottom",), grid: bool = False) -> None:
    """The house style, set on these axes alone."""
    axes.set_facecolor("white")
    kept = set(spines)
    for side, spine in axes.spines.items():
        spine.set_visible(side in kept)
        spine.set_color(RULE)
        spine.set_linewidth(0.8)
    axes.tick_params(colors=MUTED, labelcolor=INK, labelsize=9, length=3, width=0.8)
    axes.set_axisbelow(True)
    if grid:
        axes.grid(visible=True, axis="x", color=RULE, linewidth=0.6, alpha=0.7)


def strip_below(axes: Axes, pad: float) -> Axes:
    """Axes below, as wide as the picture and a twentieth as high, ``pad`` inches away."""
    from mpl_toolkits.axes_grid1 import axes_divider

    divider = axes_divider.make_axes_locatable(axes)
    append: Callable[..., Axes] = divider.append_axes
    return append("bottom", size="5%", pad=pad)


def heading(axes: Axes, text: str | None, *, size: float = 10.5, weight: str = "normal") -> None:
    """A left-aligned title; nothing in it is read as mathematics."""
    if text:
        axes.set_title(text, loc="left", fontsize=size, color=INK, fontweight=weight, parse_math=False)


def figure_heading(figure: Figure, text: str | None) -> None:
    """A title above everything, at the left; long ones are shortened, and nothing in them is read as mathematics."""
    if text:
        longest = max(20, int(figure.get_figwidth() * 11))
        shown = drawable(shorten(text, longest))
        figure.suptitle(shown, x=0.01, ha="left", fontsize=12, color=INK, fontweight="bold", parse_math=False)


def sparse_ticks(axis: Axis, most: int = 5) -> None:
    """At most so many numbers on an axis, at round places."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(most))


def whole_ticks(axis: Axis) -> None:
    """Numbers at whole places only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10]))


def missing_note(values: Floats) -> str:
    """What a reader must know about values that leave no mark: none is finite, all are 0, or some are not finite."""
    known = finite(values)
    missing = values.size - known.size
    if missing == values.size:
        return "no finite attribution"
    if not known.any():
        return "all attributions are 0"
    return f"{missing} not finite" if missing else ""


def colour_bar(mappable: ScalarMappable, axes: Axes, label: str, *, extend: str = "neither") -> Colorbar:
    """A slim bar with numbers, as high as the axes and at their right."""
    figure = axes.get_figure(root=True)
    across, high = (figure.get_size_inches() * axes.get_position().size) if figure else (1.0, 1.0)
    width = 0.09 / max(across, 0.2)
    place = axes.inset_axes((1 + 0.5 * width, 0.0, width, 1.0))
    bar = axes.figure.colorbar(mappable, cax=place, extend=extend, extendfrac=0.035)
    _tidy_bar(bar, label)
    sparse_ticks(bar.ax.yaxis, max(2, min(6, int(high * 2.2))))
    return bar


def side_bar(mappable: ScalarMappable, axes: list[Axes], label: str, *, extend: str = "neither") -> Colorbar:
    """One slim bar with numbers to the right of several axes."""
    bar = axes[0].figure.colorbar(
        mappable, ax=axes, fraction=0.06, pad=0.015, aspect=30, shrink=0.9, extend=extend, extendfrac=0.035
    )
    _tidy_bar(bar, label)
    return bar


def _tidy_bar(bar: Colorbar, label: str) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=MUTED, labelcolor=INK, labelsize=8, length=2.5, width=0.8)
    bar.set_label(label, fontsize=8.5, color=INK)
