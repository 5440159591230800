"""Where in the photo the numbers of a result belong."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum.attr.arrangement import arrangement
from captum.attr.results.leaves import leaves
from captum.attr.token_grid import token_grid
from captum.errors import CaptumError, CaptumWarning

if TYPE_CHECKING:
    from captum.attr.explanation import Explanation
    from captum.cli.models import Subject

__all__ = ["as_list", "plane"]


def plane(explanation: Explanation, subject: Subject) -> Tensor | None:
    """Return attributions as a map ``(1, 1, h, w)``, channels summed, or ``None`` when they have no places in a photo.

    Pixels and maps of channels have their places. Tokens of a vision transformer lie on the grid of its patches where
    that is certain, as for Grad-CAM; tokens before the grid, such as the class token, have none.

    Args:
        explanation: What a method found.
        subject: The model.
    """
    found = [leaf.value.detach().cpu().double() for leaf in leaves(explanation.attributions)]
    if len(found) != 1:
        return None
    values = torch.nan_to_num(found[0])
    if explanation.layer is not None and values.dim() in {3, 4} and values.shape[1] > 1:
        return _of_layer(values, explanation, subject)
    if explanation.layer is None and values.dim() == 2:
        return _of_tokens(values, explanation, subject)
    if values.dim() not in {3, 4}:
        return None
    return values.sum(1, keepdim=True) if values.dim() == 4 else values[:, None]


def as_list(explanation: Explanation, title: str) -> Explanation:
    """Return an explanation whose numbers have no places as one that is drawn as bars; of tokens, say so."""
    shapes = [leaf.value.shape for leaf in leaves(explanation.attributions)]
    if explanation.layer is None or any(len(shape) == 3 for shape in shapes):
        count = sum(shape.numel() for shape in shapes)
        message = (
            f"{title} gives {count} numbers that lie in the photo in no way that is certain, so the largest are drawn "
            "as bars; to draw a map, load what --save writes and arrange them as (1, h, w)"
        )
        warnings.warn(message, CaptumWarning, stacklevel=2)
    return dataclasses.replace(explanation, modality="tabular")


def _of_layer(values: Tensor, explanation: Explanation, subject: Subject) -> Tensor | None:
    """Maps of a layer, or tokens ``(1, T, D)``, summed over their units."""
    modules = subject.modules()
    layer = modules.get(explanation.layer or "")
    if layer is None:
        return None
    try:
        maps = arrangement(values, layer, lambda: list(modules.values()), _image(explanation), len(values))(values)
    except CaptumError:
        return None
    return maps.sum(1, keepdim=True) if maps.dim() == 4 else None


def _of_tokens(values: Tensor, explanation: Explanation, subject: Subject) -> Tensor | None:
    """One number per token, ``(1, T)``."""
    grids = token_grid(values.shape[1], _image(explanation), subject.modules().values())
    if len(grids) != 1:
        return None
    extra, height, width = grids[0]
    return values[:, extra:].reshape(1, 1, height, width)


def _image(explanation: Explanation) -> tuple[int, ...]:
    """Channels, height and width of what the model was given."""
    return tuple(int(size) for size in leaves(explanation.inputs)[0].value.shape[1:])
