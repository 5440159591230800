"""An image as segments, each present or painted over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.text.inputs import InterpretableInput, present_of
from captum.errors import InputError, MaskError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ImageMaskInput"]


def _as_it_is(image: Any) -> Any:
    return image


class ImageMaskInput(InterpretableInput):
    """An image as the segments of a mask; absent ones are painted over.

    Args:
        image: a PIL image.
        mask: integer tensor ``(H, W)`` of segment ids, each id a feature; None (default) for one segment.
        mask_list: or a list of masks ``(H, W)``, one for each feature, which may overlap.
        baseline: colour of absent segments (default white); one number per channel, or one for all.
        processor_fn: makes what the model takes of an image; the image itself by default.

    Attributes:
        values: ``"image_feature_<id>"`` for each feature.
        mask_id_to_idx: the feature of each id.

    Raises:
        InputError: when a mask has not the size of the image, or both forms are given.
    """

    def __init__(
        self,
        image: Any,
        mask: Tensor | None = None,
        mask_list: Sequence[Tensor] | None = None,
        baseline: int | tuple[int, ...] = (255, 255, 255),
        processor_fn: Callable[[Any], Any] = _as_it_is,
    ) -> None:
        self.image = image
        self.baseline = baseline
        self.processor_fn = processor_fn
        size = (image.height, image.width)
        if mask is not None and mask_list is not None:
            message = "Expected mask or mask_list, got both."
            raise InputError(message)
        if mask_list is not None:
            if not mask_list:
                message = "Expected at least one mask in mask_list."
                raise MaskError(message)
            self.mask_list = [_checked(m, size, f"mask_list[{i}]").bool() for i, m in enumerate(mask_list)]
            self.mask = torch.zeros(0)
            ids = list(range(len(self.mask_list)))
        else:
            self.mask_list = []
            self.mask = torch.zeros(size, dtype=torch.int32) if mask is None else _checked(mask, size, "mask")
            ids = self.mask.unique().tolist()
        self.mask_id_to_idx = {one: place for place, one in enumerate(ids)}
        self.n_itp_features = len(ids)
        self.values = [f"image_feature_{one}" for one in ids]

    def get_mask_list(self) -> list[Tensor]:
        """The mask of each feature, bool ``(H, W)``."""
        return self.mask_list or [self.mask == one for one in self.mask_id_to_idx]

    def to_tensor(self) -> Tensor:
        """Ones ``(1, M)``."""
        return torch.ones((1, self.n_itp_features), device="cpu")

    def to_model_input(self, perturbed_tensor: Tensor | None = None) -> Any:
        """What ``processor_fn`` makes of the image with segments that are zero painted over; see the base class."""
        if perturbed_tensor is None:
            return self.processor_fn(self.image)
        present = present_of(perturbed_tensor, self.n_itp_features)
        if all(present):
            return self.processor_fn(self.image)
        pixels = np.array(self.image)
        colour = self._colour(pixels)
        for kept, mask in zip(present, self.get_mask_list(), strict=True):
            if not kept:
                pixels[mask.cpu().numpy()] = colour
        from PIL import Image

        return self.processor_fn(Image.fromarray(pixels))

    def format_pixel_attr(self, itp_attr: Tensor) -> Tensor:
        """Scores of features ``(n, M)`` as scores of pixels ``(n, H, W)``; where segments overlap they add up."""
        masks = torch.stack(self.get_mask_list()).to(itp_attr.device)
        return torch.einsum("nm,mhw->nhw", itp_attr, masks.to(itp_attr.dtype))

    def plot_mask_overlay(
        self, show: bool = False, border_width: int = 0, show_legends: bool = True
    ) -> tuple[Figure, Axes] | None:
        """The image under its segments, in colours drawn from NumPy's global stream.

        Args:
            show: whether to show the figure at once.
            border_width: pixels of the lines around segments (default 0, none).
            show_legends: whether segments carry their names.

        Returns:
            Figure and axes; None when shown.
        """
        import matplotlib.pyplot as plt

        figure, axes = plt.subplots()
        axes.imshow(self.image)
        for mask in self.get_mask_list():
            layer = np.zeros((*mask.shape, 4))
            layer[mask.cpu().numpy()] = (*np.random.random(3), 0.5)  # noqa: NPY002  # as published pictures draw them
            axes.imshow(layer)
        self.outline(axes, border_width, self.values if show_legends else None)
        axes.set_axis_off()
        figure.tight_layout()
        if show:
            plt.show()
            return None
        plt.close(figure)
        return figure, axes

    def outline(self, axes: Axes, width: int, labels: list[str] | None) -> None:
        """Draw lines around segments, and labels in their middle.

        Args:
            axes: where the image is.
            width: width of lines in points; 0 for none.
            labels: a text for each feature; None for none.
        """
        for place, mask in enumerate(self.get_mask_list()):
            inside = mask.cpu().numpy()
            if width and inside.any() and not inside.all():
                axes.contour(inside, levels=[0.5], colors="black", linewidths=width)
            if labels is not None and inside.any():
                rows, columns = np.nonzero(inside)
                middle = len(rows) // 2  # a place of the segment itself, also where its centre is not
                axes.text(
                    columns[middle],
                    rows[middle],
                    labels[place],
                    fontsize=8,
                    ha="center",
                    bbox={"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5},
                )

    def _colour(self, pixels: np.ndarray) -> Any:
        """The baseline for the image's channels."""
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        given = (self.baseline,) * channels if isinstance(self.baseline, int) else tuple(self.baseline)
        if channels == 4 and len(given) == 3:
            given = (*given, 255)  # opaque
        if channels == 1 and len(set(given)) == 1:
            given = given[:1]
        if len(given) != channels:
            message = f"Expected a baseline of {channels} number(s), one per channel, got {self.baseline!r}."
            raise InputError(message)
        return given if pixels.ndim > 2 else given[0]


def _checked(mask: Any, size: tuple[int, int], name: str) -> Tensor:
    tensor = torch.as_tensor(mask)
    if tuple(tensor.shape) != size:
        message = f"Expected {name} of the image's height and width {size}, got {describe(mask)}."
        raise MaskError(message)
    return tensor
