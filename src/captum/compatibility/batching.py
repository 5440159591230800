"""Long sums and long batches in pieces."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.paths.quadrature import approximation_parameters
from captum.compatibility.forms import format_additional_forward_args, format_inputs, reduce_list
from captum.errors import CaptumWarning, InputError, InputTypeError

__all__ = ["batch_attribution", "batch_example_iterator", "batched_generator", "batched_operator"]


def batch_attribution(
    attr_method: Any,
    num_examples: int,
    internal_batch_size: int,
    n_steps: int,
    include_endpoint: bool = False,
    **kwargs: Any,
) -> Any:
    """Sum a path method over pieces of its path.

    ``attr_method._attribute`` is called for each piece with ``kwargs``, ``n_steps`` and ``step_sizes_and_alphas``, the
    weights and nodes of the piece.

    Args:
        attr_method: the method.
        num_examples: number of rows ``B`` of its inputs.
        internal_batch_size: most rows, ``B`` × nodes, of one piece.
        n_steps: number of nodes of the whole path.
        include_endpoint: whether pieces share their ends, for methods that take differences between nodes; ``n_steps``
            of a piece then counts the differences.
        kwargs: passed on; must have ``method``, the quadrature.

    Returns:
        The sum of what the pieces give: a tensor or a tuple of tensors.
    """
    least = 2 * num_examples if include_endpoint else num_examples
    if internal_batch_size < least:
        message = f"internal_batch_size {internal_batch_size} is too small for {num_examples} rows; {least} is used."
        warnings.warn(message, CaptumWarning, stacklevel=2)
    weights_of, nodes_of = approximation_parameters(kwargs["method"])
    weights, nodes = weights_of(n_steps), nodes_of(n_steps)
    piece = max(1, internal_batch_size // num_examples)
    shared = 1 if include_endpoint else 0
    piece = max(piece, 1 + shared)
    total: Any = None
    start = 0
    while start < max(n_steps - shared, 1):
        stop = min(start + piece, n_steps)
        part = attr_method._attribute(
            **kwargs, n_steps=stop - start - shared, step_sizes_and_alphas=(weights[start:stop], nodes[start:stop])
        )
        total = _detached(part) if total is None else _added(total, part)
        start = stop - shared
        if stop == n_steps:
            break
    return total


def _detached(part: Any) -> Any:
    if isinstance(part, (tuple, list)):
        return tuple(_detached(p) for p in part)
    if not isinstance(part, Tensor):
        message = f"Expected _attribute to return a Tensor or a tuple of Tensors, got {describe(part)}."
        raise InputTypeError(message)
    return part.detach()


def _added(total: Any, part: Any) -> Any:
    if isinstance(total, tuple):
        return tuple(_added(t, p) for t, p in zip(total, part, strict=True))
    return total + part.detach()


def tuple_splice_range(inputs: tuple[Any, ...] | None, start: int, end: int) -> tuple[Any, ...] | None:
    """Rows ``start`` to ``end`` of every tensor with rows in a tuple; all else stays."""
    if inputs is None:
        return None
    return tuple(x[start:end] if isinstance(x, Tensor) and x.dim() else x for x in inputs)


def batch_example_iterator(bsz: int, *args: Any) -> Iterator[tuple[Any, ...]]:
    """The arguments for each example of a batch: of tensors and lists with ``bsz`` rows, one row.

    Args:
        bsz: number of examples.
        args: tensors, lists, tuples of these, or anything else, which is the same for all examples.

    Yields:
        As many values as ``args``.
    """
    for row in range(bsz):
        yield tuple(_one(arg, row, bsz) for arg in args)


def _one(arg: Any, row: int, bsz: int) -> Any:
    if isinstance(arg, tuple):
        parts: list[Any] = [p if isinstance(p, tuple) else _one(p, row, bsz) for p in arg]
        return tuple(parts)
    rows = (isinstance(arg, Tensor) and arg.dim() > 0) or isinstance(arg, list)
    return arg[row : row + 1] if rows and len(arg) == bsz else arg


def batched_generator(
    inputs: Any, additional_forward_args: Any = None, target_ind: Any = None, internal_batch_size: int | None = None
) -> Iterator[tuple[tuple[Tensor, ...], Any, Any]]:
    """Inputs, constants and target in pieces of ``internal_batch_size`` rows, without a graph.

    Yields:
        ``(inputs, additional_forward_args, target_ind)`` of a piece.
    """
    if internal_batch_size is not None and internal_batch_size < 1:
        message = f"internal_batch_size must be at least 1, got {internal_batch_size}."
        raise InputError(message)
    tensors = tuple(format_inputs(inputs))
    constants = format_additional_forward_args(additional_forward_args)
    count = tensors[0].shape[0]
    per_row = isinstance(target_ind, list) or (isinstance(target_ind, Tensor) and target_ind.numel() > 1)
    with torch.no_grad():
        for start in range(0, count, internal_batch_size or max(count, 1)):
            stop = count if internal_batch_size is None else start + internal_batch_size
            target: Any = target_ind[start:stop] if per_row else target_ind
            yield (
                tuple(t[start:stop] for t in tensors),
                tuple_splice_range(constants, start, stop),
                target,
            )


def batched_operator(
    operator: Callable[..., Any],
    inputs: Any,
    additional_forward_args: Any = None,
    target_ind: Any = None,
    internal_batch_size: int | None = None,
    **kwargs: Any,
) -> Any:
    """Call ``operator`` on pieces of ``internal_batch_size`` rows and join what it returns along the rows."""
    pieces = batched_generator(inputs, additional_forward_args, target_ind, internal_batch_size)
    return reduce_list([
        operator(inputs=x, additional_forward_args=constants, target_ind=target, **kwargs)
        for x, constants, target in pieces
    ])  # fmt: skip


def divide_and_aggregate_metrics(
    inputs: tuple[Tensor, ...],
    n_perturb_samples: int,
    metric_func: Callable[[int], Any],
    agg_func: Callable[[Any, Any], Any] = torch.add,
    max_examples_per_batch: int | None = None,
) -> Any:
    """Call ``metric_func`` for pieces of the perturbations and join the results.

    Args:
        inputs: the inputs, ``(B, *)``.
        n_perturb_samples: number of perturbations in all.
        metric_func: called with the number of perturbations of a piece.
        agg_func: joins two results.
        max_examples_per_batch: most rows, ``B`` × perturbations, of a piece; default: no limit.

    Returns:
        The joined result.
    """
    rows = inputs[0].shape[0]
    piece = n_perturb_samples
    if max_examples_per_batch is not None:
        piece = min(max(max_examples_per_batch // rows, 1), n_perturb_samples)
        if max_examples_per_batch < rows:
            message = f"max_examples_per_batch {max_examples_per_batch} is below the {rows} input rows; {rows} is used."
            warnings.warn(message, CaptumWarning, stacklevel=2)
    counts = [min(piece, n_perturb_samples - done) for done in range(0, n_perturb_samples, max(piece, 1))]
    if not counts:
        message = f"n_perturb_samples must be at least 1, got {n_perturb_samples}."
        raise InputError(message)
    total = metric_func(counts[0])
    for count in counts[1:]:
        total = agg_func(total, metric_func(count))
    return total
