"""Call a model and read its target."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._C import Future as AnyFuture
from torch.futures import Future

from captum._engine.place import parse_selector, select_neuron
from captum._engine.rows import Rows
from captum._engine.score import read_output
from captum._engine.target import parse_target, select
from captum._engine.values import describe, takes_nothing
from captum.compatibility.forms import format_additional_forward_args, format_inputs
from captum.errors import InputError, LayerError, TargetError

__all__ = ["run_forward", "select_targets", "validate_target", "verify_select_neuron"]


def select_targets(output: Any, target: Any) -> Tensor:
    """The part of a model's output that a target names.

    Args:
        output: ``(B, *)``.
        target: what it may be is said in ``docs/conventions.md``; ``None`` gives the output itself.

    Raises:
        TargetError: the target does not fit the output.
    """
    if target is None:
        return output
    scores = read_output(output)
    if scores.dim() == 0:
        message = "The output has no rows, so it takes no target; pass target=None."
        raise TargetError(message)
    return select(scores, parse_target(target, scores.shape[0]), Rows(scores.shape[0]))


def run_forward(
    forward_func: Callable[..., Any], inputs: Any, target: Any = None, additional_forward_args: Any = None
) -> Any:
    """Call a model on inputs and constants, and read the target; a ``Future`` is read when it is done.

    Args:
        forward_func: the model; a function without parameters is called without arguments.
        inputs: a tensor, or several as tuple or list.
        target: which part of the output; ``None`` for all of it.
        additional_forward_args: constants of the model, passed after the inputs.

    Returns:
        The output, or the target's part of it; a ``Future`` of that if the model gives one.
    """
    if takes_nothing(forward_func):
        output = forward_func()
    else:
        output = forward_func(*format_inputs(inputs), *(format_additional_forward_args(additional_forward_args) or ()))
    if isinstance(output, AnyFuture):
        answer: Any = output

        def read(done: Any) -> Tensor:
            return select_targets(done.value(), target)

        return answer.then(read)
    return select_targets(output, target)


def construct_future_forward(original_forward: Callable[..., Any]) -> Callable[..., Future[Any]]:
    """A function that gives the result of ``original_forward`` as a ``Future`` that is done."""

    def forward(*args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(original_forward(*args, **kwargs))
        return future

    return forward


def validate_target(num_samples: int, target: Any) -> None:
    """Check that a target given per row has an entry for each row."""
    given = (
        len(target) if isinstance(target, list) or (isinstance(target, Tensor) and target.numel() > 1) else num_samples
    )
    if given != num_samples:
        message = f"Expected one target per row, {num_samples}; got {given}."
        raise TargetError(message)


def verify_select_neuron(layer_output: tuple[Tensor, ...], selector: Any) -> Tensor:
    """The neuron that a selector picks in a layer's value.

    Args:
        layer_output: the tensors of the layer's value, ``(B, *)``.
        selector: int, tuple of ints and slices, or a function of the value.

    Returns:
        ``(B,)``; the sum over the neurons of slices.

    Raises:
        LayerError: the selector does not fit.
    """
    value: Any = layer_output[0] if len(layer_output) == 1 else layer_output
    if callable(selector):
        picked: Any = selector(value)
        return picked
    if isinstance(value, tuple):
        message = f"The layer has {len(layer_output)} tensors: pass a function that picks the neuron."
        raise LayerError(message)
    return select_neuron(value, parse_selector(selector), Rows(len(value)))


def get_module_from_name(model: nn.Module, layer_name: str) -> nn.Module:
    """The module at a dotted path."""
    found: Any = model
    for part in layer_name.split("."):
        found = getattr(found, part)
    return found


def extract_device(module: nn.Module, hook_inputs: Any, hook_outputs: Any) -> torch.device:
    """The device of a module: of its parameters, else of what it received or gave."""
    values = [*module.parameters(), *format_inputs(hook_inputs), *format_inputs(hook_outputs)]
    for value in values:
        if isinstance(value, Tensor):
            return value.device
    message = f"No device is known of {type(module).__name__}: it has no parameters, and no tensors passed through it."
    raise DeviceError(message)


class DeviceError(InputError, RuntimeError):
    """Nothing tells where a module runs."""


def sort_key_list(keys: list[torch.device], device_ids: list[int] | None = None) -> list[torch.device]:
    """Devices in the order of ``device_ids``, or of their numbers."""
    if len(keys) == 1:
        return keys
    order = device_ids if device_ids is not None else sorted(key.index or 0 for key in keys)
    by_index = {key.index: key for key in keys}
    missing = [index for index in order if index not in by_index]
    if missing or len(order) != len(keys):
        message = f"device_ids {order} do not match the devices used, {describe(keys)}: {missing} missing."
        raise InputError(message)
    return [by_index[index] for index in order]
