"""How the tokens of a vision transformer lie over its image."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from torch import nn

__all__ = ["Grid", "token_grid"]

#: Class, distillation and register tokens that stand before a grid; fewer where tokens were merged on the way, and
#: where the size of the image is all there is to go by.
_MOST_EXTRA = 17
_MERGED_EXTRA = (0, 1, 2)
_USUAL_EXTRA = (0, 1, 2, 5)


class Grid(NamedTuple):
    """Tokens before the grid, and the grid's height and width in tokens."""

    extra: int
    height: int
    width: int


def token_grid(tokens: int, image: Sequence[int], modules: Iterable[nn.Module]) -> list[Grid]:
    """Every way in which the tokens may cover the image: one when it is certain, none when no way fits.

    A convolution that reads the image says how large the patches are; later layers may have merged tokens two by two.
    Without such a convolution, patches are squares that tile the image.

    Args:
        tokens: number of tokens.
        image: channels, height and width.
        modules: the modules of the model.

    Example:
        >>> token_grid(33, (3, 16, 512), [nn.Conv2d(3, 8, 16, stride=16)])
        [Grid(extra=1, height=1, width=32)]
    """
    channels, *size = image
    maps = {_map_of(m, size) for m in modules if isinstance(m, nn.Conv2d) and m.in_channels == channels}
    if not maps:
        return _of_squares(tokens, size)
    return sorted({grid for height, width in maps for grid in _of_map(tokens, height, width)})


def _map_of(conv: nn.Conv2d, size: Sequence[int]) -> tuple[int, int]:
    """Height and width of what a convolution makes of an image."""
    if conv.padding == "same":
        return size[0], size[1]
    around = (0, 0) if isinstance(conv.padding, str) else conv.padding
    spans = (d * (k - 1) + 1 for d, k in zip(conv.dilation, conv.kernel_size, strict=True))
    sides = [(s + 2 * a - n) // m + 1 for s, a, n, m in zip(size, around, spans, conv.stride, strict=True)]
    return sides[0], sides[1]


def _of_map(tokens: int, height: int, width: int) -> list[Grid]:
    """The map itself when it fits, else what is left of it after merging."""
    if height < 1 or width < 1:
        return []
    if 0 <= tokens - height * width <= _MOST_EXTRA:
        return [Grid(tokens - height * width, height, width)]
    found: list[Grid] = []
    while height > 1 or width > 1:
        height, width = -(-height // 2), -(-width // 2)
        if tokens - height * width in _MERGED_EXTRA:
            found.append(Grid(tokens - height * width, height, width))
    return found


def _of_squares(tokens: int, size: Sequence[int]) -> list[Grid]:
    """Grids of square patches that tile the image."""
    sides = [side for side in range(1, min(size) + 1) if not any(s % side for s in size)]
    grids = [Grid(tokens - (size[0] // s) * (size[1] // s), size[0] // s, size[1] // s) for s in sides]
    return [grid for grid in grids if grid.extra in _USUAL_EXTRA]
