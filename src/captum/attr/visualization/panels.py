"""An image beside its attribution maps, with numbers on the colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import as_floats, as_numpy, channels_last, displayable, finite, grey, summed
from captum.attr.visualization.scaling import symmetric_limit
from captum.attr.visualization.wording import drawable, short_number, shorten
from captum.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from captum.attr.visualization.arrays import Floats, Values

__all__ = ["image_figure"]

_PANEL = 3.1  # inches, the longer side
_PER_LINE = 4
_SCALES = ("own", "shared")


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to colours, symmetric about 0, or from 0 up where nothing is negative."""

    limit: float
    signed: bool
    clipped: bool
    outlier_perc: float

    def mappable(self) -> ScalarMappable:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize

        colours = canvas.diverging_map() if self.signed else canvas.positive_map()
        return ScalarMappable(Normalize(-self.limit if self.signed else 0.0, self.limit), colours)

    @property
    def extend(self) -> str:
        return ("both" if self.signed else "max") if self.clipped else "neither"

    @property
    def note(self) -> str | None:
        if not self.clipped:
            return None
        share = f" ({short_number(self.outlier_perc)} % of the mass)" if self.outlier_perc else ""
        return f"clipped beyond {'±' if self.signed else ''}{short_number(self.limit)}{share}"


def _scale_of(maps: Sequence[Floats], outlier_perc: float, limit: float | None) -> _Scale:
    values = finite(np.concatenate([one.ravel() for one in maps]))
    end = symmetric_limit(values, outlier_perc) if limit is None else limit
    if not end > 0 or not np.isfinite(end):
        message = f"limit must be a positive number; got {limit}."
        raise InputError(message)
    clipped = bool(values.size and np.abs(values).max() > end)
    return _Scale(end, bool((values < 0).any()) or not values.any(), clipped, outlier_perc if limit is None else 0.0)


def _as_list(maps: object) -> list[object]:
    """A list of tensors or arrays as it is; anything else, nested lists of numbers too, is one map."""
    if isinstance(maps, list | tuple) and all(isinstance(one, Tensor | np.ndarray) for one in maps):
        return list(maps)
    return [maps]


def _named_maps(
    maps: Values | Sequence[Values] | Mapping[str, Values], titles: Sequence[str] | None
) -> dict[str, Floats]:
    pairs = maps.items() if isinstance(maps, Mapping) else [("", one) for one in _as_list(maps)]
    given = [(str(name), value) for name, value in pairs]
    if not given:
        message = "maps must hold at least one attribution map; got none."
        raise InputError(message)
    if titles is not None:
        if len(titles) != len(given):
            message = f"titles must have one entry per map: expected {len(given)}, got {len(titles)}."
            raise InputError(message)
        given = [(str(title), value) for title, (_, value) in zip(titles, given, strict=True)]
    found = [
        (name, summed(channels_last(as_floats(value, "maps"), "maps").astype(np.float64), 2)) for name, value in given
    ]
    return {f"{index}:{name}": one for index, (name, one) in enumerate(found)}


def _note(values: Floats, scale: _Scale) -> str:
    return " · ".join(part for part in (scale.note, canvas.missing_note(values)) if part)


def _paint(axes: Axes, values: Floats, scale: _Scale, under: npt.NDArray[np.uint8] | None) -> None:
    """Draw one map; over an image, its opacity grows with the magnitude."""
    mappable = scale.mappable()
    if under is None:
        axes.imshow(mappable.to_rgba(values))
        return
    height, width = under.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(0.35 * grey(under) + 0.65 * 255, cmap="gray", vmin=0, vmax=255)
    colours = mappable.to_rgba(values)
    strength = np.clip(np.nan_to_num(np.abs(values) / scale.limit, nan=0.6, posinf=1.0), 0, 1)
    colours[:, :, 3] = 0.95 * strength**0.6
    axes.imshow(colours, extent=extent)


def _frame(axes: Axes, title: str, note: str = "") -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    canvas.tidy_axes(axes, spines=("left", "right", "top", "bottom"))
    canvas.heading(axes, drawable(shorten(title, 46)))
    if note:
        axes.set_xlabel(note, fontsize=8, color=canvas.MUTED, loc="left")


def _size(shape: tuple[int, ...], panels: int, bars: int, titled: bool) -> tuple[tuple[int, int], tuple[float, float]]:
    """Lines and columns of panels, and the size of the figure in inches."""
    height, width = shape[:2]
    wide, high = _PANEL * min(1.0, width / height), _PANEL * min(1.0, height / width)
    wide, high = max(wide, 1.2), max(high, 0.6)
    columns = min(panels, _PER_LINE)
    lines = -(-panels // columns)
    total = columns * (wide + 0.12) + bars * 0.75 + 0.2
    return (lines, columns), (max(total, 3.0), lines * (high + 0.42) + (0.4 if titled else 0.1))


def image_figure(
    maps: Values | Sequence[Values] | Mapping[str, Values],
    image: Values | None = None,
    *,
    titles: Sequence[str] | None = None,
    title: str | None = None,
    scale: str = "own",
    limit: float | None = None,
    outlier_perc: float = 1,
    overlay: bool = False,
) -> Figure:
    """Draw an image and one or several attribution maps of it side by side.

    Blue is negative, white 0 and orange positive, symmetric about 0; maps without negative values go from white to
    orange. Channels are summed. Values that are not finite are grey.

    Args:
        maps: one map, a list of maps, or a dict from titles to maps; each ``(H, W)``, ``(H, W, C)``, ``(C, H, W)`` or
            one of the last two with a batch axis of 1. Sizes may differ from the image's.
        image: the image in any of these layouts, drawn first; None: only the maps.
        titles: one title per map.
        title: title of the figure.
        scale: ``"own"``: each map has its own colour scale; ``"shared"``: one for all.
        limit: value at the end of the colour scales; None: from the maps.
        outlier_perc: percent of the attribution mass beyond the end of a scale, 0 to 100; the colour bar says so.
        overlay: draw the maps over the pale grey image, the stronger the more opaque.

    Returns:
        A figure that pyplot does not know of.

    Raises:
        InputError: if a map or the image has no usable layout, or the numbers of maps and titles differ.

    >>> figure = image_figure({"saliency": [[0.0, 1.0], [2.0, 3.0]]})
    >>> [axes.get_title(loc="left") for axes in figure.axes][:1]
    ['saliency']
    """
    if scale not in _SCALES:
        message = f"scale must be one of {', '.join(_SCALES)}; got {scale!r}."
        raise InputError(message)
    named = _named_maps(maps, titles)
    pixels = None if image is None else displayable(channels_last(as_numpy(image, "image"), "image"))
    if scale == "shared":
        scales = [_scale_of(list(named.values()), outlier_perc, limit)] * len(named)
    else:
        scales = [_scale_of([values], outlier_perc, limit) for values in named.values()]
    own = scale == "own" and len(named) > 1
    panels = len(named) + (pixels is not None)
    shape = pixels.shape if pixels is not None else next(iter(named.values())).shape
    grid, size = _size(shape, panels, min(len(named), _PER_LINE) if own else 1, bool(title))
    figure = canvas.bare_figure(size, "compressed")
    views: list[Axes] = list(figure.subplots(*grid, squeeze=False).ravel())
    for spare in views[panels:]:
        spare.set_visible(False)
    if pixels is not None:
        first = views.pop(0)
        first.imshow(pixels, cmap="gray", vmin=0, vmax=255)
        _frame(first, "input")
    drawn = views[: len(named)]
    for axes, (name, values), chosen in zip(drawn, named.items(), scales, strict=True):
        _paint(axes, values, chosen, pixels if overlay else None)
        _frame(axes, name.partition(":")[2], _note(values, chosen))
        if own:
            canvas.colour_bar(chosen.mappable(), axes, "attribution", extend=chosen.extend)
    if not own:
        last = drawn[: grid[1] - (pixels is not None)][-1]
        canvas.colour_bar(scales[0].mappable(), last, "attribution", extend=scales[0].extend)
    canvas.figure_heading(figure, title)
    return figure
