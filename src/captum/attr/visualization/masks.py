"""Outlines and labels of segments, drawn onto axes that show an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from captum.attr.visualization.arrays import as_numpy
from captum.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from captum.attr.visualization.arrays import Values

__all__ = ["draw_mask_border", "draw_mask_legend"]


def _as_mask(mask: Values) -> npt.NDArray[np.bool_]:
    array = as_numpy(mask, "mask")
    if array.ndim != 2 or array.dtype.kind not in "biuf":
        message = f"mask must be (H, W), true inside the segment; got shape {array.shape} and dtype {array.dtype}."
        raise InputError(message)
    return array != 0


def _eroded(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels whose four neighbours lie inside; outside the picture is outside the mask."""
    ringed = np.pad(mask, 1)
    return mask & ringed[:-2, 1:-1] & ringed[2:, 1:-1] & ringed[1:-1, :-2] & ringed[1:-1, 2:]


def draw_mask_border(
    ax: Axes, mask: Values, border_width: int = 1, border_color: str | npt.NDArray[np.floating] = "black"
) -> None:
    """Colour the outermost pixels of a segment.

    Args:
        ax: axes that show an image of the mask's size.
        mask: ``(H, W)``, true (or not 0) inside the segment.
        border_width: thickness in pixels, counted inwards; 0 draws nothing.
        border_color: any matplotlib colour.

    Raises:
        InputError: if the mask is not two-dimensional or the width is negative.
    """
    from matplotlib.colors import to_rgba

    inside = _as_mask(mask)
    if border_width < 0:
        message = f"border_width must be 0 or more pixels; got {border_width}."
        raise InputError(message)
    core = inside
    for _ in range(border_width):
        core = _eroded(core)
    border = inside & ~core
    if border.any():
        overlay = np.zeros((*inside.shape, 4))
        colour = border_color if isinstance(border_color, str) else tuple(border_color.tolist())
        overlay[border] = to_rgba(colour)
        ax.imshow(overlay)


def draw_mask_legend(
    ax: Axes,
    mask: Values,
    label: str,
    fontsize: int = 10,
    text_color: str = "white",
    bbox_facecolor: str = "black",
    bbox_alpha: float = 0.6,
) -> None:
    """Write a label at the centroid of a segment; an empty segment gets none.

    Args:
        ax: axes that show an image of the mask's size.
        mask: ``(H, W)``, true (or not 0) inside the segment.
        label: the text; nothing in it is read as mathematics.
        fontsize: size in points.
        text_color: colour of the text.
        bbox_facecolor: colour of the box behind it.
        bbox_alpha: opacity of that box.

    Raises:
        InputError: if the mask is not two-dimensional.
    """
    rows, columns = np.nonzero(_as_mask(mask))
    if rows.size:
        ax.text(
            float(columns.mean()),
            float(rows.mean()),
            label,
            color=text_color,
            fontsize=fontsize,
            ha="center",
            va="center",
            bbox={"facecolor": bbox_facecolor, "alpha": bbox_alpha, "edgecolor": "none"},
            parse_math=False,
        )
