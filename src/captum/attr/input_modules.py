"""Modules for places where a model has none: its inputs, and the sum of two branches."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from torch import Tensor, nn

from captum.errors import InputError, InputTypeError

__all__ = ["Addition_Module", "InputIdentity", "ModelInputWrapper"]


class Addition_Module(nn.Module):  # noqa: N801 - the established public name
    """Sum of two tensors as a module, so that hooks see it."""

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        """Return ``x1 + x2``."""
        return x1 + x2


class InputIdentity(nn.Module):
    """Identity at one input of a model.

    Args:
        input_name: name of the argument of the model's ``forward`` that passes through here.
    """

    def __init__(self, input_name: str) -> None:
        super().__init__()
        self.input_name = input_name

    def forward(self, x: object) -> object:
        """Return ``x``."""
        return x

    def extra_repr(self) -> str:
        """Return what the printed module shows."""
        return self.input_name


class ModelInputWrapper(nn.Module):
    """Wrap a model so that each of its inputs passes through an identity layer of its own.

    Layer methods can then treat inputs like layers, several at once and together with inner layers. The layers are
    ``wrapper.input_maps[name]``, the model itself is ``wrapper.module``. What ``*`` and ``**`` take passes directly.

    Args:
        module_to_wrap: the model; the names are those of its ``forward``.

    Raises:
        InputTypeError: it is no module.
        InputError: an argument has a name that a ``ModuleDict`` cannot hold, such as ``keys``.

    >>> wrapper = ModelInputWrapper(nn.Bilinear(2, 3, 1))
    >>> list(wrapper.input_maps)
    ['input1', 'input2']
    """

    def __init__(self, module_to_wrap: nn.Module) -> None:
        super().__init__()
        self.module = _module(module_to_wrap)
        forward: Callable[..., object] = module_to_wrap.forward
        parameters = inspect.signature(forward).parameters.values()
        direct = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
        self._by_position = [p.name for p in parameters if p.kind not in (*direct, inspect.Parameter.KEYWORD_ONLY)]
        self.arg_name_list = [p.name for p in parameters if p.kind not in direct]
        try:
            self.input_maps = nn.ModuleDict({name: InputIdentity(name) for name in self.arg_name_list})
        except KeyError as fault:
            message = f"an argument of forward cannot name a layer: {fault.args[0]}; rename the argument"
            raise InputError(message) from fault

    def forward(self, *args: object, **kwargs: object) -> object:
        """Pass every argument through its identity, then call the model."""
        named = [*self._by_position, *[""] * (len(args) - len(self._by_position))]
        positional = [self._pass(name, value) for name, value in zip(named, args, strict=False)]
        return self.module(*positional, **{name: self._pass(name, value) for name, value in kwargs.items()})

    def _pass(self, name: str, value: object) -> object:
        return self.input_maps[name](value) if name in self.input_maps else value


def _module(given: object) -> nn.Module:
    if not isinstance(given, nn.Module):
        message = f"module_to_wrap must be a torch.nn.Module, got a {type(given).__name__}"
        raise InputTypeError(message)
    return given
