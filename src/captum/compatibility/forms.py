"""One form for what users pass: tuples of tensors, checked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, TypeGuard

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.paths.quadrature import SUPPORTED_METHODS
from captum.errors import BaselineError, InputError, InputTypeError

Tensors = tuple[Tensor, ...]


def is_tuple(inputs: object) -> TypeGuard[tuple[Any, ...]]:
    """Tell whether ``inputs`` is a tuple."""
    return isinstance(inputs, tuple)


def format_inputs(inputs: Any, unpack_inputs: bool = True) -> Any:
    """Wrap anything but a tuple or a list into a tuple; without ``unpack_inputs`` wrap everything."""
    return inputs if isinstance(inputs, (tuple, list)) and unpack_inputs else (inputs,)


def format_tensor_into_tuples(inputs: Any) -> Tensors | None:
    """Wrap a tensor into a tuple; ``None`` and tuples stay, anything else is refused."""
    if inputs is None or isinstance(inputs, tuple):
        return inputs
    if not isinstance(inputs, Tensor):
        message = f"Expected a Tensor or a tuple of Tensors as inputs, got {describe(inputs)}; pass tuple(inputs)."
        raise InputTypeError(message)
    return (inputs,)


def format_baseline(baselines: Any, inputs: Tensors) -> tuple[Any, ...]:
    """One tensor or number per input: zeros (``False`` for bool) for ``None``."""
    if baselines is None:
        return tuple(False if t.dtype == torch.bool else 0 for t in inputs)
    entries = baselines if isinstance(baselines, tuple) else (baselines,)
    for entry in entries:
        if not isinstance(entry, (Tensor, int, float)):
            message = f"Expected as baseline a Tensor or a number per input, got {describe(entry)}."
            raise BaselineError(message)
    return entries


def format_input_baseline(inputs: Any, baselines: Any) -> tuple[Tensors, tuple[Any, ...]]:
    """Inputs and baselines as tuples."""
    tensors = format_inputs(inputs)
    return tensors, format_baseline(baselines, tensors)


def format_callable_baseline(baselines: Any, inputs: Any) -> tuple[Any, ...]:
    """Baselines as a tuple; a function without parameters, or with one for the inputs, is called first."""
    if callable(baselines) and not isinstance(baselines, Tensor):
        import inspect

        baselines = baselines(inputs) if inspect.signature(baselines).parameters else baselines()
    return format_baseline(baselines, format_inputs(inputs))


def tensorize_baseline(inputs: Tensors, baselines: tuple[Any, ...]) -> Tensors:
    """Baselines as tensors with as many rows as the inputs."""

    def tensor(x: Tensor, baseline: Any) -> Tensor:
        if not isinstance(baseline, Tensor):
            return torch.full_like(x, baseline)
        alone = baseline.dim() > 0 and baseline.shape[0] == 1 and x.shape[0] > 1
        return baseline.repeat_interleave(x.shape[0], 0) if alone else baseline

    return tuple(tensor(x, baseline) for x, baseline in zip(inputs, baselines, strict=True))


def format_additional_forward_args(additional_forward_args: Any) -> tuple[Any, ...] | None:
    """Constants of the model as a tuple; ``None`` stays."""
    if additional_forward_args is None or isinstance(additional_forward_args, tuple):
        return additional_forward_args
    return (additional_forward_args,)


def format_output(is_inputs_tuple: bool, output: Any) -> Tensor | Tensors:
    """A tuple for tuple inputs, the one tensor for a tensor."""
    if not isinstance(output, tuple):
        message = f"Expected a tuple of outputs, one per input, got {describe(output)}."
        raise InputTypeError(message)
    if not is_inputs_tuple and len(output) != 1:
        message = f"A single tensor went in, so one tensor should come out, not {len(output)}."
        raise InputError(message)
    return output if is_inputs_tuple else output[0]


def format_outputs(is_multiple_inputs: bool, outputs: list[Tensors]) -> Any:
    """Tuples of one tensor become that tensor; without multiple inputs there is one result, not a list."""
    formed = [out[0] if len(out) == 1 else out for out in outputs]
    if not is_multiple_inputs and len(formed) != 1:
        message = f"One output is expected for a single layer, got {len(formed)}."
        raise InputError(message)
    return formed if is_multiple_inputs else formed[0]


def reduce_list(val_list: Sequence[Any], red_func: Callable[[list[Any]], Any] = torch.cat) -> Any:
    """Reduce a list of tensors, of tuples of tensors (place by place), or of bools (whether any is true)."""
    if not len(val_list):
        message = "The list to reduce is empty: give at least one element."
        raise InputError(message)
    first = val_list[0]
    if isinstance(first, Tensor):
        device = first.device
        return red_func([value.to(device) for value in val_list])
    if isinstance(first, bool):
        return any(val_list)
    if isinstance(first, (tuple, list)):
        columns: list[list[Any]] = [[value[i] for value in val_list] for i in range(len(first))]
        return tuple(reduce_list(column, red_func) for column in columns)
    message = f"Expected a list of Tensors, of bools, or of tuples of these, got a list of {type(first).__name__}."
    raise InputTypeError(message)


def validate_input(inputs: Tensors, baselines: tuple[Any, ...], draw_baseline_from_distrib: bool = False) -> None:
    """Check that each baseline fits its input.

    Args:
        inputs: one tensor ``(B, *)`` per input.
        baselines: per input a number, or a tensor ``(B, *)`` or ``(1, *)``.
        draw_baseline_from_distrib: whether baselines are samples ``(N, *)`` of a distribution.

    Raises:
        BaselineError: the numbers or shapes do not fit.
    """
    if len(inputs) != len(baselines):
        message = f"Expected one baseline per input, {len(inputs)}; got {len(baselines)}."
        raise BaselineError(message)
    for x, baseline in zip(inputs, baselines, strict=True):
        if not isinstance(baseline, Tensor):
            continue
        if draw_baseline_from_distrib:
            fits, allowed = baseline.shape[1:] == x.shape[1:], f"(N, {', '.join(map(str, x.shape[1:]))})"
        else:
            alone = baseline.dim() > 0 and baseline.shape[0] == 1
            fits, allowed = baseline.shape == x.shape or alone, f"{tuple(x.shape)} or {(1, *x.shape[1:])}"
        if not fits:
            message = f"Expected as baseline a number or a Tensor of shape {allowed}, got {describe(baseline)}."
            raise BaselineError(message)


def validate_path_input(
    inputs: Tensors,
    baselines: tuple[Any, ...],
    n_steps: int = 50,
    method: str = "riemann_trapezoid",
    draw_baseline_from_distrib: bool = False,
) -> None:
    """Check baselines as :func:`validate_input` does, the number of steps and the quadrature method.

    Raises:
        InputError: something does not fit.
    """
    validate_input(inputs, baselines, draw_baseline_from_distrib)
    if n_steps < 0:
        message = f"n_steps must be a positive whole number, got {n_steps}."
        raise InputError(message)
    if method not in SUPPORTED_METHODS:
        message = f"Expected as method one of {', '.join(SUPPORTED_METHODS)}; got {method!r}."
        raise InputError(message)


def validate_noise_tunnel_type(nt_type: str, supported_noise_tunnel_types: Sequence[str]) -> None:
    """Check the kind of noise average."""
    if nt_type not in supported_noise_tunnel_types:
        message = f"Expected as nt_type one of {', '.join(supported_noise_tunnel_types)}; got {nt_type!r}."
        raise InputError(message)


def reshape_and_sum(tensor_input: Tensor, num_steps: int, num_examples: int, layer_size: tuple[int, ...]) -> Tensor:
    """Sum over the steps of ``(num_steps · num_examples, *)``, step-major, to ``(num_examples, *layer_size)``."""
    return tensor_input.reshape(num_steps, num_examples, *layer_size).sum(0)


def format_feature_mask(feature_mask: Any, inputs: Tensors, start_idx: int = 0) -> Tensors:
    """A feature mask per input; by default each scalar of a row is its own feature, numbered on from ``start_idx``."""
    if feature_mask is not None:
        return feature_mask if isinstance(feature_mask, tuple) else (feature_mask,)
    sizes = [x[0].numel() for x in inputs]
    starts = accumulate(sizes, initial=start_idx)
    return tuple(
        torch.arange(start, start + size, device=x.device).reshape(1, *x.shape[1:])
        for x, size, start in zip(inputs, sizes, starts, strict=False)
    )


def max_feature_index(feature_mask: Tensors) -> int:
    """The largest id of a feature mask."""
    return max(int(mask.max().item()) for mask in feature_mask if mask.numel())


def construct_default_feature_mask(inputs: Tensors) -> tuple[Tensors, int]:
    """The default feature mask and its number of features."""
    return format_feature_mask(None, inputs), sum(x[0].numel() for x in inputs)


def construct_feature_mask(feature_mask: Any, formatted_inputs: Tensors) -> tuple[Tensors, int]:
    """A feature mask whose ids start at 0, and its number of features (the largest id plus one).

    Args:
        feature_mask: tensor of ids or tuple of such, one per input; ``None`` makes each scalar a feature.
        formatted_inputs: the inputs.
    """
    if feature_mask is None:
        return construct_default_feature_mask(formatted_inputs)
    masks = format_feature_mask(feature_mask, formatted_inputs)
    least = min(int(mask.min().item()) for mask in masks if mask.numel())
    masks = tuple(mask - least for mask in masks) if least else masks
    return masks, max_feature_index(masks) + 1


def flatten_tensor_or_tuple(inp: Any) -> Tensor:
    """All elements of a tensor or tuple of tensors in one row."""
    return torch.cat([t.reshape(-1) for t in inp]) if isinstance(inp, tuple) else inp.reshape(-1)


def safe_div(numerator: Tensor, denom: Any, default_denom: Any = 1.0) -> Tensor:
    """Divide, with ``default_denom`` in the place of zeros in ``denom``."""
    if isinstance(denom, Tensor):
        return numerator / torch.where(denom != 0, denom, default_denom)
    return numerator / (denom or default_denom)


def parse_version(v: str) -> tuple[int, ...]:
    """The leading numbers of a version, ``"2.1.0a0"`` → ``(2, 1)``."""
    numbers: list[int] = []
    for part in v.split("."):
        if not part.isdigit():
            break
        numbers.append(int(part))
    if not numbers:
        message = f"Expected a version that begins with a number, got {v!r}."
        raise InputError(message)
    return tuple(numbers)
