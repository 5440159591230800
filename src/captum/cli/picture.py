"""One picture per method: the photo, and beside it what the method saw in it."""

# matplotlib's own types leave **kwargs open, and pyright then calls every such method partly unknown
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from torch import nn

from captum.attr.results.leaves import leaves
from captum.attr.visualization.canvas import INK, MUTED, bare_figure, diverging_map, positive_map
from captum.attr.visualization.scaling import mass_threshold
from captum.attr.visualization.wording import drawable, shorten
from captum.cli.places import as_list, plane

if TYPE_CHECKING:
    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum.attr.explanation import Explanation
    from captum.cli.models import Subject
    from captum.cli.request import Request
    from captum.cli.run import Order, Prediction

__all__ = ["draw", "heat", "seen"]

_OUTLIERS = 2.0  # percent of the mass beyond the end of the colour scale
_FADED = 0.35  # contrast of the photo under a map
_OPAQUE = 0.8  # of the strongest colour: the photo stays visible
_BY_REGION = {"feature_mask", "sliding_window_shapes"}  # arguments of methods whose maps are made of regions already
_SPOTS = 56  # a map has about so many spots across: single pixels of opposite signs cannot be read


class _Look(NamedTuple):
    """How fast weak values fade, and what the ends and the middle of the scale are called."""

    exponent: float
    ends: tuple[str, str, str]


def draw(order: Order, subject: Subject, request: Request, explanation: Explanation, target: Prediction) -> Figure:
    """Draw the photo next to the map of one method.

    Args:
        order: What was asked for.
        subject: The model.
        request: The method.
        explanation: What it found.
        target: The class it explains.

    Returns:
        The figure; where the result has no places in the photo, bars.
    """
    found = plane(explanation, subject)
    if found is None:
        return as_list(explanation, request.title(order.settings)).plot()
    photo = seen(order, subject, explanation)
    by_region = bool(_BY_REGION & set(request.own))
    patch = 1 if by_region else max(1, min(found.shape[2:]) // _SPOTS)
    values = heat(found, (photo.shape[0], photo.shape[1]), patch)
    height = 4.3 * photo.shape[0] / photo.shape[1]
    figure = bare_figure((9.6, height + 0.85))
    figure.set_layout_engine("compressed")
    left, right = figure.subplots(1, 2)
    left.imshow(photo)
    counts = request.method.reads_target and (by_region or request.method.multiplies_by_inputs)
    ends = ("against", "0", "for") if counts else ("−", "0", "+")
    _overlay(right, photo, values, figure, _Look(0.5 if patch > 1 else 1.0, ends))
    for axes in (left, right):
        axes.set_axis_off()
    about = f"“{shorten(target.name)}”, {target.probability:.0%}" if explanation.targets else "whatever the class"
    where = f", layer {explanation.layer}" if explanation.layer else ""
    title = f"{request.title(order.settings)}: {about}{where}"
    figure.suptitle(drawable(title), fontsize=13, color=INK, parse_math=False)
    spots = f" A spot sums {patch} × {patch} pixels." if patch > 1 else ""
    figure.supxlabel(drawable(f"{request.meaning}.{spots}"), fontsize=9, color=MUTED, parse_math=False)
    return figure


def seen(order: Order, subject: Subject, explanation: Explanation) -> npt.NDArray[np.uint8]:
    """Return what to draw under a map, ``(H, W, 3)``: the photo, or the part of it that the model sees."""
    if subject.sees_whole_photo:
        return np.asarray(order.photo)
    pixels = leaves(explanation.inputs)[0].value.detach().cpu().float()[0]
    shown = pixels[:3] if len(pixels) >= 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    low, high = shown.amin(), shown.amax()
    return ((shown - low) / (high - low).clamp_min(1e-12) * 255).byte().permute(1, 2, 0).numpy()


def heat(values: Tensor, size: tuple[int, int], patch: int = 1) -> npt.NDArray[np.float64]:
    """Stretch a map over a photo.

    Args:
        values: ``(1, 1, h, w)``.
        size: Height and width to stretch to.
        patch: Side of the squares of pixels that are summed to one spot first.
    """
    spots = nn.functional.avg_pool2d(values, patch, ceil_mode=True, count_include_pad=False)
    return nn.functional.interpolate(spots, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def _overlay(
    axes: Axes, photo: npt.NDArray[np.uint8], values: npt.NDArray[np.float64], figure: Figure, look: _Look
) -> None:
    """Draw a map over the faded photo; what counts little lets the photo shine through, by ``|value| ** exponent``."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    grey = photo.mean(2) / 255
    axes.imshow(1 - _FADED * (1 - grey), cmap="gray", vmin=0, vmax=1)
    signed = bool((values < 0).any())
    scaled = np.clip(values / (mass_threshold(values, _OUTLIERS) or 1.0), -1, 1)
    colours, norm = diverging_map() if signed else positive_map(), Normalize(-1 if signed else 0, 1)
    axes.imshow(scaled, cmap=colours, norm=norm, alpha=_OPAQUE * np.abs(scaled) ** look.exponent)
    scale = ScalarMappable(norm, colours)
    bar = figure.colorbar(scale, ax=axes, fraction=0.04, pad=0.02, ticks=[-1, 0, 1] if signed else [0, 1])
    bar.ax.set_yticklabels(look.ends if signed else ("none", "most"), fontsize=9, color=MUTED)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0)
