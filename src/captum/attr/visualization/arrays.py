"""User values as arrays: tensors of any device and dtype, image layouts, pixel ranges.

Everything that is drawn passes through here once, so that drawing code sees float64 arrays with channels last.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from captum.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Floats: TypeAlias = npt.NDArray[np.float64]
Values: TypeAlias = "npt.ArrayLike | torch.Tensor"
"""What the drawing functions take: a tensor (any device, dtype, ``requires_grad``), an array or nested lists."""

_Choice = TypeVar("_Choice", bound=Enum)
_LARGEST_UNIT_PIXEL = 1.001  # an interpolated [0, 1] image may overshoot by rounding
_MOST_CHANNELS = 4  # of a picture: colours and opacity
_SMALLEST_BYTE_MAXIMUM = 4.0  # a float image whose maximum lies between is standardised, not in 0..255


def as_numpy(values: object, what: str) -> npt.NDArray[np.generic]:
    """The values on the CPU, outside autograd, with their kind (boolean, integer, float) kept."""
    if isinstance(values, torch.Tensor):
        if values.is_meta:
            message = f"{what} has no data (it is on the meta device); pass a tensor with values."
            raise InputError(message)
        tensor = values.detach()
        if tensor.layout is not torch.strided:
            tensor = tensor.to_dense()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().resolve_conj().resolve_neg().numpy()
    try:
        return np.asarray(values)
    except (TypeError, ValueError, RuntimeError) as error:
        message = f"{what} must be a tensor, an array or nested lists of numbers; got {type(values).__name__}: {error}"
        raise InputTypeError(message) from error


def as_floats(values: object, what: str) -> Floats:
    """The values as float64; everything that is not a real number is refused."""
    array = as_numpy(values, what)
    if array.dtype.kind not in "biuf":
        array = _numbers_in_objects(array, what)
    return array.astype(np.float64)


def _numbers_in_objects(array: npt.NDArray[np.generic], what: str) -> npt.NDArray[np.generic]:
    if array.dtype.kind == "O":
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            pass
    message = f"{what} must hold real numbers; got dtype {array.dtype}."
    raise InputTypeError(message)


def choose(kind: type[_Choice], value: object, what: str) -> _Choice:
    """The member of ``kind`` that ``value`` (its name, or the member) names."""
    if isinstance(value, kind):
        return value
    if isinstance(value, str) and value in kind.__members__:
        return kind[value]
    message = f"{what} must be one of {', '.join(kind.__members__)}; got {value!r}."
    raise InputError(message)


def finite(array: Floats) -> Floats:
    """The finite values, flat."""
    return array[np.isfinite(array)]


# ---- layouts of images -------------------------------------------------------------------------------------------


def summed(values: Floats, axis: int | tuple[int, ...], keepdims: bool = False) -> Floats:
    """The sum over an axis; infinities of both signs make NaN, which nothing needs to warn of."""
    with np.errstate(invalid="ignore", over="ignore"):
        return values.sum(axis=axis, keepdims=keepdims)


def _without_batch(shape: tuple[int, ...], what: str) -> tuple[int, ...]:
    if len(shape) == 4 and shape[0] == 1:
        return shape[1:]
    if len(shape) in (2, 3):
        return shape
    message = (
        f"{what} must be one image: (H, W), (H, W, C), (C, H, W), or one of the last two with a leading batch axis "
        f"of size 1; got shape {shape}. Take one row, e.g. attributions[0]."
    )
    raise InputError(message)


def _layouts(shape: tuple[int, ...]) -> list[int | None]:
    """The axes that may hold the channels, likeliest first; None for an image without channels."""
    if len(shape) == 2:
        return [None]
    first_looks_right = shape[0] <= _MOST_CHANNELS and shape[2] not in (1, 3, 4)
    return [0, 2] if first_looks_right else [2, 0]


def _plane(shape: tuple[int, ...], axis: int | None) -> tuple[int, int]:
    sides = [size for index, size in enumerate(shape) if index != axis]
    return sides[0], sides[1]


def _arrange(array: npt.NDArray[np.generic], shape: tuple[int, ...], axis: int | None) -> npt.NDArray[np.generic]:
    array = array.reshape(shape)
    return array[:, :, None] if axis is None else np.moveaxis(array, axis, -1)


def channels_last(array: npt.NDArray[np.generic], what: str) -> npt.NDArray[np.generic]:
    """One image as (H, W, C).

    The channel axis is the last one if it has 1, 3 or 4 entries, else the first one if it has at most 4, else the last.
    """
    shape = _without_batch(array.shape, what)
    return _arrange(array, shape, _layouts(shape)[0])


def matching_images(
    attribution: npt.NDArray[np.generic], image: npt.NDArray[np.generic]
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic]]:
    """Both as (H, W, C), laid out so that height and width agree."""
    shape, image_shape = _without_batch(attribution.shape, "attr"), _without_batch(image.shape, "original_image")
    likeliest, *others = _layouts(image_shape)
    for image_axis in (likeliest, *(k for k in others if k is not None and image_shape[k] <= _MOST_CHANNELS)):
        for axis in _layouts(shape):
            if _plane(shape, axis) == _plane(image_shape, image_axis):
                return _arrange(attribution, shape, axis), _arrange(image, image_shape, image_axis)
    message = (
        f"attr and original_image must agree in height and width; got shapes {attribution.shape} and {image.shape}. "
        "LayerAttribution.interpolate brings a layer's map to the size of the image."
    )
    raise InputError(message)


# ---- pixels ------------------------------------------------------------------------------------------------------


def as_bytes(image: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Pixels for display, 0..255.

    Integers are taken as 0..255 and booleans as black and white. Floats within [0, 1] are multiplied by 255; floats
    from 0 up to a maximum between 4 and 255 are taken as they are; all others (standardised images with negative
    values, for example) are stretched linearly from their minimum and maximum.
    """
    if image.dtype.kind not in "biuf":
        message = f"original_image must hold real numbers; got dtype {image.dtype}."
        raise InputTypeError(message)
    pixels = image.astype(np.float64)
    if image.dtype.kind == "b":
        return np.rint(pixels * 255).astype(np.uint8)
    known = finite(pixels)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    pixels = np.nan_to_num(pixels, nan=low, posinf=high, neginf=low)
    if image.dtype.kind == "f":
        if low >= 0 and high <= _LARGEST_UNIT_PIXEL:
            pixels = pixels * 255
        elif low < 0 or not _SMALLEST_BYTE_MAXIMUM < high <= 255:
            pixels = (pixels - low) * (255 / (high - low)) if high > low else np.full_like(pixels, 127.0)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def displayable(image: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Pixels as (H, W) grey, (H, W, 3) or (H, W, 4); other channel counts are shown by their mean."""
    pixels = as_bytes(image)
    if pixels.shape[2] in (3, 4):
        return pixels
    return pixels.mean(axis=2).astype(np.uint8)


def grey(pixels: npt.NDArray[np.uint8]) -> Floats:
    """Mean of the colour channels, 0..255, leaving out opacity."""
    return pixels.astype(np.float64) if pixels.ndim == 2 else pixels[:, :, :3].mean(axis=2)


def names_for(count: int, names: Sequence[object] | None, stem: str, what: str) -> list[str]:
    """``count`` names as strings: the given ones, or ``stem 0``, ``stem 1`` ..."""
    if names is None:
        return [f"{stem} {index}" for index in range(count)]
    if len(names) != count:
        message = f"{what} must have one name per entry: expected {count}, got {len(names)}."
        raise InputError(message)
    return [str(name) for name in names]
