"""Gradients of single examples from hooks on linear and convolutional layers, as earlier releases offered them.

The methods of this package do not need it: :class:`captum.influence.gradients.ExampleGradients` knows every module.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError

__all__ = ["SUPPORTED_MODULES", "LossMode", "SampleGradientWrapper", "conv2d_param_grads", "linear_param_grads"]


class LossMode(Enum):
    """What a loss does with its examples."""

    SUM = 0
    MEAN = 1


def linear_param_grads(module: nn.Linear, activation: Tensor, gradient_out: Tensor, reset: bool = False) -> None:
    """Add the gradients of each example to ``sample_grad`` of the weight and the bias.

    Args:
        module: the layer.
        activation: what it received ``(n, *, in)``.
        gradient_out: gradients by what it returned ``(n, *, out)``.
        reset: whether ``sample_grad`` begins anew.
    """
    slopes = gradient_out.reshape(len(gradient_out), -1, gradient_out.shape[-1])
    values = activation.reshape(len(activation), -1, activation.shape[-1])
    _add(module.weight, torch.einsum("nto,nti->noi", slopes, values), reset)
    _add(module.bias, slopes.sum(1), reset)


def conv2d_param_grads(module: nn.Conv2d, activation: Tensor, gradient_out: Tensor, reset: bool = False) -> None:
    """Add the gradients of each example to ``sample_grad`` of the weight and the bias; any groups and padding.

    Args:
        module: the layer.
        activation: what it received ``(n, in, h, w)``.
        gradient_out: gradients by what it returned ``(n, out, h', w')``.
        reset: whether ``sample_grad`` begins anew.
    """
    mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
    padding: list[int] = module._reversed_padding_repeated_twice
    padded = F.pad(activation, padding, mode=mode)
    size: Any = module.kernel_size
    windows = F.unfold(padded, size, dilation=module.dilation, stride=module.stride)
    count, groups = len(activation), module.groups
    slopes = gradient_out.reshape(count, groups, module.out_channels // groups, -1)
    windows = windows.reshape(count, groups, -1, windows.shape[-1])[..., : slopes.shape[-1]]
    found = torch.einsum("ngol,ngil->ngoi", slopes, windows)
    _add(module.weight, found.reshape(count, *module.weight.shape), reset)
    _add(module.bias, gradient_out.sum((2, 3)), reset)


def _add(parameter: Tensor | None, gradients: Tensor, reset: bool) -> None:
    if parameter is None:
        return
    before: Tensor | None = None if reset else getattr(parameter, "sample_grad", None)
    total = gradients if before is None or before.shape != gradients.shape else before + gradients
    setattr(parameter, "sample_grad", total)  # noqa: B010 -- no such field


SUPPORTED_MODULES: dict[type[nn.Module], Callable[..., None]] = {
    nn.Conv2d: conv2d_param_grads,
    nn.Linear: linear_param_grads,
}


class SampleGradientWrapper:
    """Hooks that find gradients of single examples in one backward pass, for ``Linear`` and ``Conv2d`` layers.

    Args:
        model: the model.
        layer_modules: layers to look at; None (default) for all linear and convolutional ones.

    Raises:
        InputTypeError: when a layer is neither linear nor convolutional.
    """

    def __init__(self, model: nn.Module, layer_modules: Iterable[nn.Module] | None = None) -> None:
        kinds = tuple(SUPPORTED_MODULES)
        given = model.modules() if layer_modules is None else (m for layer in layer_modules for m in layer.modules())
        self._layers = [m for m in given if isinstance(m, kinds)]
        if not self._layers:
            message = f"Expected linear or convolutional layers of {describe(model)}, got none: use torch.func."
            raise InputTypeError(message)
        self.model = model
        self.hooks_added = False
        self._seen: list[tuple[nn.Module, Tensor, Tensor]] = []
        self._hooks: list[Any] = []

    def add_hooks(self) -> None:
        """Watch the layers from now on."""
        if not self.hooks_added:
            self._hooks = [layer.register_forward_hook(self._watch) for layer in self._layers]
            self.hooks_added = True

    def remove_hooks(self) -> None:
        """Watch no longer."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._seen.clear()
        self.hooks_added = False

    def _watch(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        if not output.requires_grad:
            return output
        self._seen.append((module, args[0].detach(), output))
        return output.clone()  # in-place code that follows leaves the watched tensor alone

    def compute_param_sample_gradients(self, loss_blob: Tensor, loss_mode: str = "mean") -> None:
        """Set ``sample_grad`` ``(n, *)`` of the layers' parameters; their ``grad`` is left alone.

        Args:
            loss_blob: the loss of the forward passes since the last call, a number.
            loss_mode: whether it is the ``"mean"`` over examples (default) or the ``"sum"``.

        Raises:
            InputError: when the mode is another, or there was no forward pass with hooks.
        """
        if loss_mode.upper() not in LossMode.__members__:
            message = f"Expected loss_mode to be 'sum' or 'mean', got {loss_mode!r}."
            raise InputError(message)
        if not self._seen:
            message = "Expected a forward pass after add_hooks, got none."
            raise InputError(message)
        seen, self._seen = self._seen, []
        outputs = [output for _, _, output in seen]
        slopes = torch.autograd.grad(loss_blob, outputs, allow_unused=True, materialize_grads=True)
        met: set[int] = set()
        for (module, values, _), slope in zip(seen, slopes, strict=True):
            scale = len(values) if LossMode[loss_mode.upper()] is LossMode.MEAN else 1
            rule = next(rule for kind, rule in SUPPORTED_MODULES.items() if isinstance(module, kind))
            fresh = {id(p) for p in module.parameters(recurse=False)}
            rule(module, values, slope * scale, reset=not fresh <= met)
            met |= fresh
