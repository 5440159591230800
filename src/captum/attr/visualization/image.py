"""Attributions of one image, drawn over, beside or through it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization import canvas
from captum.attr.visualization.arrays import (
    as_floats,
    as_numpy,
    channels_last,
    choose,
    displayable,
    grey,
    matching_images,
    summed,
)
from captum.attr.visualization.scaling import VisualizeSign, normalize_attributions, nothing_to_show
from captum.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

    from captum.attr.visualization.arrays import Floats, Values

__all__ = ["ImageVisualizationMethod", "visualize_image_attr", "visualize_image_attr_multiple"]


class ImageVisualizationMethod(Enum):
    """How an image and its attributions are put together: the functions take the *names* as strings."""

    heat_map = 1
    blended_heat_map = 2
    original_image = 3
    masked_image = 4
    alpha_scaling = 5


_Method = ImageVisualizationMethod
_ONE_SIGNED = (_Method.masked_image, _Method.alpha_scaling)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One picture, fully computed: nothing that a user may have got wrong is left to the drawing."""

    method: ImageVisualizationMethod
    pixels: npt.NDArray[np.uint8] | None
    scaled: Floats | None
    colours: Colormap
    signed: bool
    note: str | None


def _prepare(
    attr: Values | None,
    original_image: Values | None,
    method: str | ImageVisualizationMethod,
    sign: str | VisualizeSign,
    outlier_perc: float,
    cmap: str | Colormap | None,
) -> _Panel:
    chosen, part = choose(_Method, method, "method"), choose(VisualizeSign, sign, "sign")
    if original_image is None and chosen is not _Method.heat_map:
        message = f"original_image is needed for method {chosen.name!r}; only 'heat_map' does without."
        raise InputError(message)
    if attr is None and chosen is not _Method.original_image:
        message = f"attr is needed for method {chosen.name!r}; only 'original_image' does without."
        raise InputError(message)
    if chosen in _ONE_SIGNED and part is VisualizeSign.all:
        others = ", ".join(member.name for member in VisualizeSign if member is not VisualizeSign.all)
        message = f"method {chosen.name!r} shows magnitudes; choose a sign other than 'all': {others}."
        raise InputError(message)
    colours = canvas.named_map(cmap) if cmap is not None else canvas.sign_map(part)
    pixels = None if original_image is None else as_numpy(original_image, "original_image")
    if chosen is _Method.original_image or attr is None:
        shown = None if pixels is None else displayable(channels_last(pixels, "original_image"))
        return _Panel(chosen, shown, None, colours, signed=False, note=None)
    values = as_floats(attr, "attr")
    if chosen is _Method.heat_map or pixels is None:
        values, shown = channels_last(values, "attr").astype(np.float64), None
    else:
        laid_out, image = matching_images(values, pixels)
        values, shown = laid_out.astype(np.float64), displayable(image)
    values = summed(values, -1)
    scaled = normalize_attributions(values, part, outlier_perc)
    return _Panel(chosen, shown, scaled, colours, part is VisualizeSign.all, nothing_to_show(values, part))


def _draw(panel: _Panel, axes: Axes, alpha_overlay: float) -> AxesImage | None:
    """Draw one picture; the returned map, if any, belongs to the colour bar."""
    low = -1.0 if panel.signed else 0.0
    if panel.method is _Method.heat_map and panel.scaled is not None:
        return axes.imshow(panel.scaled, cmap=panel.colours, vmin=low, vmax=1.0)
    if panel.pixels is None or panel.method is _Method.original_image or panel.scaled is None:
        if panel.pixels is not None:
            axes.imshow(panel.pixels, cmap="gray", vmin=0, vmax=255)
        return None
    if panel.method is _Method.blended_heat_map:
        axes.imshow(grey(panel.pixels), cmap="gray")
        return axes.imshow(panel.scaled, cmap=panel.colours, vmin=low, vmax=1.0, alpha=alpha_overlay)
    weight = np.nan_to_num(panel.scaled, nan=0.0)
    pixels = panel.pixels
    if panel.method is _Method.masked_image:
        weights = weight if pixels.ndim == 2 else weight[:, :, None]
        masked = (pixels * weights).astype(np.uint8)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            masked[:, :, 3] = pixels[:, :, 3]
        axes.imshow(masked, cmap="gray", vmin=0, vmax=255)
    else:
        colours = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels[:, :, :3]
        axes.imshow(np.dstack([colours, (weight * 255).astype(np.uint8)]))
    return None


def _decorate(axes: Axes, figure: Figure, mappable: AxesImage | None, note: str | None, show_colorbar: bool) -> None:
    """Take the ticks off; put a horizontal colour bar below, or nothing of the same height, so that panels align."""
    axes.set_xticks([])
    axes.set_yticks([])
    if not show_colorbar:
        if note:
            axes.set_xlabel(note, fontsize="small")
        return
    below = canvas.strip_below(axes, pad=0.1)
    if mappable is None:
        below.axis("off")
        return
    bar = figure.colorbar(mappable, cax=below, orientation="horizontal")
    bar.outline.set_visible(False)
    if note:
        bar.set_label(note, fontsize="small")


def visualize_image_attr(
    attr: Values | None,
    original_image: Values | None = None,
    method: str = "heat_map",
    sign: str = "absolute_value",
    plt_fig_axis: tuple[Figure, Axes] | None = None,
    outlier_perc: float = 2,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.5,
    show_colorbar: bool = False,
    title: str | None = None,
    fig_size: tuple[float, float] = (6, 6),
    use_pyplot: bool = True,
) -> tuple[Figure, Axes]:
    r"""Draw the attributions of one image.

    The channels are summed, the part named by ``sign`` is kept and divided by :math:`t`, the smallest magnitude such
    that magnitudes up to it hold all but ``outlier_perc`` percent of the mass: :math:`m = \mathrm{clip}(a/t, -1, 1)`.
    A map without anything to show is drawn blank, with a note below.

    Args:
        attr: ``(H, W)``, ``(H, W, C)``, ``(C, H, W)`` or one of the last two with a batch axis of 1; tensor or array.
            Where both ends could be channels, the last axis is. None is enough for ``"original_image"``.
        original_image: the image in any of these layouts, needed by every method but ``"heat_map"``. Floats in [0, 1]
            or 0..255 are shown as they are, standardised ones are stretched to their range.
        method: ``"heat_map"``, ``"blended_heat_map"`` (over the grey image), ``"original_image"``, ``"masked_image"``
            (image · m) or ``"alpha_scaling"`` (opacity m).
        sign: ``"positive"``, ``"absolute_value"``, ``"negative"`` or ``"all"`` (maps only).
        plt_fig_axis: draw into this figure and axes instead of new ones.
        outlier_perc: percent of the attribution mass beyond the end of the colour scale, 0 to 100.
        cmap: colour map or its name; by default green, blue, red for the three parts and red-white-green for all.
        alpha_overlay: opacity of the map in ``"blended_heat_map"``.
        show_colorbar: draw a colour bar below; methods without a map keep the space free.
        title: title of the axes.
        fig_size: width and height of a new figure, in inches.
        use_pyplot: open the figure through pyplot and call ``plt.show()``; else pyplot never learns of it.

    Returns:
        The figure and the axes of the picture.

    Raises:
        InputError: for unknown names (the choices are listed), a missing image, sizes that differ, or ``"all"`` where
            magnitudes are shown.

    >>> figure, axes = visualize_image_attr([[0.0, 1.0], [2.0, -1.0]], sign="all", use_pyplot=False)
    >>> axes.images[0].get_array().max()
    np.float64(1.0)
    """
    panel = _prepare(attr, original_image, method, sign, outlier_perc, cmap)
    if plt_fig_axis is None:
        figure = canvas.open_figure(fig_size, use_pyplot)
        axes = figure.subplots()
    else:
        figure, axes = plt_fig_axis
    mappable = _draw(panel, axes, alpha_overlay)
    _decorate(axes, figure, mappable, panel.note, show_colorbar)
    if title:
        axes.set_title(title)
    canvas.show(use_pyplot)
    return figure, axes


def visualize_image_attr_multiple(
    attr: Values | None,
    original_image: Values | None,
    methods: Sequence[str],
    signs: Sequence[str],
    titles: Sequence[str] | None = None,
    fig_size: tuple[float, float] = (8, 6),
    use_pyplot: bool = True,
    *,
    outlier_perc: float = 2,
    cmap: str | Colormap | None = None,
    alpha_overlay: float = 0.5,
    show_colorbar: bool = False,
) -> tuple[Figure, Axes | list[Axes]]:
    """Draw several views of the attributions of one image side by side.

    Args:
        attr: as in :func:`visualize_image_attr`.
        original_image: as in :func:`visualize_image_attr`.
        methods: one method name per view.
        signs: one sign name per view.
        titles: one title per view, or None.
        fig_size: width and height of the figure, in inches.
        use_pyplot: open the figure through pyplot and call ``plt.show()``; else pyplot never learns of it.
        outlier_perc: as in :func:`visualize_image_attr`.
        cmap: as in :func:`visualize_image_attr`.
        alpha_overlay: as in :func:`visualize_image_attr`.
        show_colorbar: as in :func:`visualize_image_attr`.

    Returns:
        The figure and its axes: one ``Axes`` for one view, else a list.

    Raises:
        InputError: as :func:`visualize_image_attr`, and if the numbers of methods, signs and titles differ.
    """
    for name, given in (("methods", methods), ("signs", signs), ("titles", titles)):
        if isinstance(given, str):
            message = f"{name} must be a list with one entry per view; got a single string."
            raise InputTypeError(message)
    if not methods or len(methods) != len(signs) or (titles is not None and len(titles) != len(methods)):
        named = "" if titles is None else f", {len(titles)} titles"
        message = f"methods, signs and titles must be equally long, at least 1: got {len(methods)} methods, "
        message += f"{len(signs)} signs{named}."
        raise InputError(message)
    panels = [
        _prepare(attr, original_image, method, sign, outlier_perc, cmap)
        for method, sign in zip(methods, signs, strict=True)
    ]
    figure = canvas.open_figure(fig_size, use_pyplot)
    views: list[Axes] = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for index, (panel, axes) in enumerate(zip(panels, views, strict=True)):
        _decorate(axes, figure, _draw(panel, axes, alpha_overlay), panel.note, show_colorbar)
        if titles is not None and titles[index]:
            axes.set_title(titles[index])
    figure.tight_layout()
    canvas.show(use_pyplot)
    return figure, views[0] if len(views) == 1 else views
