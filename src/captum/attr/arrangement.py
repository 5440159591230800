"""Which dims of a layer's value are positions and which is the channel: maps, tokens, and maps with channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from torch import Tensor, nn

from captum.attr.token_grid import token_grid
from captum.errors import LayerError

__all__ = ["Arrange", "arrangement"]

Arrange = Callable[[Tensor], Tensor]
Modules = Callable[[], Sequence[nn.Module]]

_CHANNELS_FIRST = (nn.Conv1d, nn.ConvTranspose1d, nn.BatchNorm1d, nn.MaxPool1d, nn.AvgPool1d, nn.AdaptiveAvgPool1d)
_TOKENS = (nn.LayerNorm, nn.MultiheadAttention, nn.Embedding, nn.Linear, nn.RMSNorm, nn.RNNBase)


def arrangement(value: Tensor, layer: nn.Module, modules: Modules, image: tuple[int, ...] | None, rows: int) -> Arrange:
    """How to bring a layer's value to ``(B, C, *spatial)``.

    Maps with channels first stay as they are, also where a layer has several for each row, as for the frames of a
    video. Tokens of windows are no such maps: their places in the image are lost.

    Args:
        value: as the layer made it: ``(B, C, *spatial)``, ``(B, h, w, C)`` or tokens ``(B, T, D)``.
        layer: the module that made it.
        modules: gives those of the model; asked only where the layer itself does not tell.
        image: channels, height and width of the input when it is an image.
        rows: how many rows the model was given, B.
    """
    if value.dim() == 4 and image is not None and _is_channels_last(value.shape[1:], layer, image):
        _require_whole_rows(value, layer, rows)
        return lambda t: t.permute(0, 3, 1, 2)
    if value.dim() < 2:
        kind = type(layer).__name__
        message = f"Expected a layer with channels, (B, C, *spatial); the value of {kind} is {tuple(value.shape)}."
        raise LayerError(message)
    if value.dim() == 2:
        _require_whole_rows(value, layer, rows)
    if value.dim() != 3 or _is_channels_first(value, layer, modules):
        return lambda t: t
    _require_whole_rows(value, layer, rows)
    if image is None:
        return lambda t: t.transpose(1, 2)
    grids = token_grid(value.shape[1], image, modules())
    if len(grids) != 1:
        ways = " or ".join(f"{g.height} × {g.width} after {g.extra} others" for g in grids) or "in no way that is known"
        message = (
            f"The layer's value {tuple(value.shape)} holds {value.shape[1]} tokens, which may cover the image {image} "
            f"{ways}. Pass reshape_transform, a function to (B, C, h, w), such as "
            "lambda t: t[:, 1:].transpose(1, 2).unflatten(2, (h, w)) for one class token before the grid."
        )
        raise LayerError(message)
    extra, height, width = grids[0]
    return lambda t: t[:, extra:].transpose(1, 2).reshape(t.shape[0], t.shape[2], height, width)


def _require_whole_rows(value: Tensor, layer: nn.Module, rows: int) -> None:
    """Require that positions lie in their row of the model's inputs, and not side by side as rows of the layer."""
    if len(value) in (1, rows):  # a single one is shared by all rows
        return
    message = (
        f"Expected one map for each of {rows} rows of the inputs; the value of {type(layer).__name__} is "
        f"{tuple(value.shape)}, so dim 0 is not the batch: window attention, for one, has a row for each window. "
        "Choose a layer whose value is whole, such as the block around this one, or pass reshape_transform, a function "
        "to (B, C, *spatial)."
    )
    raise LayerError(message)


def _is_channels_last(sizes: Sequence[int], layer: nn.Module, image: Sequence[int]) -> bool:
    """Tell ``(h, w, C)`` from ``(C, h, w)``: a map has the proportions of its image; then the layer itself decides."""
    if not _covers(sizes[:2], image[1:]):
        return False
    first, last = sizes[0], sizes[2]
    within = list(layer.modules())
    if any(first in _channel_counts(module) for module in within):
        return first == last and type(layer) is nn.LayerNorm
    return any(last in _feature_counts(module) for module in within) or not _covers(sizes[1:], image[1:])


def _covers(sides: Sequence[int], size: Sequence[int]) -> bool:
    """Whether a map of these sides has the proportions of an image, up to rounding, and is not larger."""
    (high, wide), (height, width) = sides, size
    return high <= height and wide <= width and abs(high * width - wide * height) <= max(height, width)


def _channel_counts(module: nn.Module) -> Iterable[int]:
    """The sizes that dim 1 of what a module takes or makes must have."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        return (module.in_channels, module.out_channels)
    if isinstance(module, (nn.BatchNorm2d, nn.InstanceNorm2d)):
        return (module.num_features,)
    if isinstance(module, nn.GroupNorm):
        return (module.num_channels,)
    if isinstance(module, nn.LayerNorm) and type(module) is not nn.LayerNorm:
        return module.normalized_shape  # subclasses that turn maps round, as ConvNeXt's do
    return ()


def _feature_counts(module: nn.Module) -> Iterable[int]:
    """The sizes that the last dim of what a module takes or makes must have."""
    if isinstance(module, nn.Linear):
        return (module.in_features, module.out_features)
    return module.normalized_shape[-1:] if isinstance(module, (nn.LayerNorm, nn.RMSNorm)) else ()


def _is_channels_first(value: Tensor, layer: nn.Module, modules: Modules) -> bool:
    """Tell ``(B, C, L)`` from ``(B, T, D)`` by the layer itself, then by what the model is made of."""
    for group in (lambda: list(layer.modules()), modules):
        members = group()
        channels = any(isinstance(m, _CHANNELS_FIRST) for m in members)
        tokens = any(isinstance(m, _TOKENS) and not _is_head(m, value) for m in members)
        if channels != tokens:
            return channels
    message = (
        f"The layer's value {tuple(value.shape)} may be (B, channels, length) or (B, tokens, dim). Pass "
        "reshape_transform: lambda t: t for the first, lambda t: t.transpose(1, 2) for the second."
    )
    raise LayerError(message)


def _is_head(module: nn.Module, value: Tensor) -> bool:
    """A linear layer that does not work on the last dim of the value says nothing about its form."""
    return isinstance(module, nn.Linear) and value.shape[2] not in (module.in_features, module.out_features)
