"""What methods need to be told about photos, unless the user says otherwise: windows, superpixels, numbers of draws."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    import numpy.typing as npt

    from captum.cli.request import Request

__all__ = ["photo_defaults", "superpixels"]

_SEGMENTS = 60
_GRID = 8
_DRAWS: dict[str, int] = {"gradient_shap": 20, "kernel_shap": 400, "lime": 400, "shapley_value_sampling": 10}


def photo_defaults(request: Request, inputs: Tensor) -> dict[str, object]:
    """Return arguments that make a method say something about a photo.

    Args:
        request: The method. Windows are an eighth of the photo wide and move by half of that; methods that remove
            features remove superpixels, for single pixels are too many and too small to matter.
        inputs: The photo as the model takes it, ``(1, C, H, W)``.
    """
    accepted = request.method.parameters()
    found: dict[str, object] = {}
    if request.method.name in _DRAWS:
        found["n_samples"] = _DRAWS[request.method.name]
    if inputs.dim() != 4:
        return found
    _, channels, height, width = inputs.shape
    if "sliding_window_shapes" in accepted:
        window = (max(1, height // _GRID), max(1, width // _GRID))
        found["sliding_window_shapes"] = (channels, *window)
        found["strides"] = (channels, *(max(1, side // 2) for side in window))
    if "feature_mask" in accepted and request.method.kind == "input":
        found["feature_mask"] = superpixels(inputs)
    return found


def superpixels(inputs: Tensor) -> Tensor:
    """Return regions of like colour as a feature mask ``(1, 1, H, W)`` numbered from 0.

    SLIC (Achanta et al. 2012, doi:10.1109/TPAMI.2012.120) where scikit-image is installed, else a grid.
    """
    if find_spec("skimage") is None:
        return _grid(inputs.shape[2], inputs.shape[3])
    slic: Callable[..., npt.NDArray[np.int64]] = import_module("skimage.segmentation").slic
    image = inputs[0].detach().cpu().double()
    image = (image - image.amin()) / (image.amax() - image.amin()).clamp_min(1e-12)
    segments = slic(
        image.permute(1, 2, 0).numpy(), n_segments=_SEGMENTS, compactness=10, start_label=0, channel_axis=-1
    )
    return torch.as_tensor(segments)[None, None].long()


def _grid(height: int, width: int) -> Tensor:
    cells = torch.arange(float(_GRID * _GRID)).view(1, 1, _GRID, _GRID)
    return nn.functional.interpolate(cells, (height, width), mode="nearest").long()
