"""Entrance: the first convolution of a model, when it alone reads the variable.

A convolution is affine. Along a straight path its results are a straight path too, and the gradient by its input is a
linear map of the gradient by its result: so it runs for the two ends of a path, and backwards once for the sum over the
path.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input

if TYPE_CHECKING:
    from captum._engine.convolutions import Convolution

_COPIES = {"detach", "clone"}
_HARMLESS = {"requires_grad_", "is_inference", "grad"}  # the last is torch.autograd.grad
Found = tuple["Convolution", dict[str, Any]]


class Entrance:
    """Follow the variable of a chunk from operator to operator, up to the convolution that reads it.

    Args:
        variables: what the chunk differentiates by; only a single one is followed.
    """

    def __init__(self, variables: tuple[Tensor, ...]) -> None:
        self._mine = {id(v): weakref.ref(v) for v in variables}
        self._derived: list[weakref.ref[Tensor]] = []
        self._found: Found | None = None
        self._lost = len(variables) != 1

    def see(
        self, func: Callable[..., Any], tensors: Iterable[Tensor], out: Any, at: tuple[Any, dict[str, Any] | None]
    ) -> None:
        """Take note of a torch call; ``at``: the convolution that it is, with its arguments."""
        if self._lost:
            return
        mine = [t for t in tensors if self._is_mine(t)]
        name = getattr(func, "__name__", "")
        if not mine or name in _HARMLESS:
            return
        convolution, call = at
        if name in _COPIES and isinstance(out, Tensor):
            self._mine[id(out)] = weakref.ref(out)
            self._derived.append(self._mine[id(out)])
        elif convolution is None or call is None or self._found is not None or len(mine) > 1:
            self._lost = True
        else:
            self._found = (convolution, {k: v for k, v in call.items() if not isinstance(v, Tensor)})

    def settled(self) -> Found | None:
        """The convolution and its call, unless anything else has read the variable or somebody still holds a copy."""
        held = any(reference() is not None for reference in self._derived)
        return None if self._lost or held else self._found

    def _is_mine(self, tensor: Tensor) -> bool:
        reference = self._mine.get(id(tensor))
        return reference is not None and reference() is tensor


class Head:
    """The affine map from the variable to the result of the first convolution (and of the batch norm folded into it).

    Args:
        convolution: the convolution.
        call: the arguments of its call that are not tensors.
    """

    def __init__(self, convolution: Convolution, call: dict[str, Any]) -> None:
        self.convolution = convolution
        self.call = call
        self._options = _options(call)

    def matches(self, convolution: Convolution, call: dict[str, Any]) -> bool:
        """Whether a call is the one of this head."""
        return convolution is self.convolution and _options(call) == self._options

    @property
    def reversible(self) -> bool:
        """Whether the padding is given in numbers, as going back needs."""
        return not isinstance(self._options[1], str)

    def elements(self, shape: torch.Size) -> int:
        """Number of elements of the results for images of ``shape``."""
        weight = self.convolution.weight
        images = torch.empty(shape, dtype=weight.dtype, device="meta")
        return torch.conv2d(images, weight.detach().to("meta"), None, *self._options).numel()

    def of(self, points: Tensor) -> Tensor:
        """The convolution's results at ``points`` ``(n, C, H, W)``."""
        with torch.no_grad():
            images = points.contiguous(memory_format=torch.channels_last)
            return torch.conv2d(images, *self.convolution.parameters(), *self._options)

    def pull(self, gradients: Tensor, shape: torch.Size) -> Tensor:
        """Gradients by the variable, of ``shape``, from those by the convolution's results."""
        weight = self.convolution.parameters()[0]
        return conv2d_input(shape, weight, gradients, *self._options)


def _options(call: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(call.get(k, v) for k, v in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1)))
