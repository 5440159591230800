"""Sensitivity: how far an explanation moves when the input moves a little."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from captum._engine.rows import Rows
from captum._engine.values import Inputs, describe, parse_inputs
from captum.errors import InputError, InputTypeError, OutputError
from captum.log import log_usage
from captum.metrics.samples import Tensors, group_sizes, in_form, parts_of, repeated, takes_more

__all__ = ["default_perturb_func", "sensitivity_max"]

#: Arguments of explanation functions that have a row per example.
OF_EXAMPLES = ("target", "baselines", "additional_forward_args", "feature_mask")


def default_perturb_func(inputs: Any, perturb_radius: float = 0.02, *, generator: torch.Generator | None = None) -> Any:
    """Inputs with uniform noise in ``[−r, r)`` added to every element.

    Args:
        inputs: tensor ``(n, *)`` or tuple of these, floating point.
        perturb_radius: ``r`` in units of the inputs.
        generator: source of randomness on the CPU; None for torch's global one. Bind it with ``functools.partial``.

    Returns:
        The perturbed inputs in the structure of ``inputs``; one tensor alone in a tuple.

    Raises:
        InputTypeError: when inputs are not floating point.
    """
    parsed = parse_inputs(inputs)
    noisy = tuple(_noisy(t, float(perturb_radius), generator) for t in parsed.tensors)
    return noisy if parsed.rebuild is None else parsed.restore(noisy)


def _noisy(tensor: Tensor, radius: float, generator: torch.Generator | None) -> Tensor:
    if not tensor.dtype.is_floating_point:
        message = (
            f"Expected floating-point inputs to add noise to, got {describe(tensor)}: pass a perturb_func that changes "
            "ids or categories, or explain embeddings."
        )
        raise InputTypeError(message)
    noise = torch.empty(tensor.shape, dtype=torch.float32, device="cpu").uniform_(-radius, radius, generator=generator)
    return tensor + noise.to(device=tensor.device, dtype=tensor.dtype)


@log_usage()
def sensitivity_max(
    explanation_func: Callable[..., Any],
    inputs: Any,
    perturb_func: Callable[..., Any] = default_perturb_func,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
    norm_ord: Any = "fro",
    max_examples_per_batch: int | None = None,
    **kwargs: Any,
) -> Tensor:
    r"""Largest relative change of an explanation over perturbations of its input.

    :math:`\max_{\tilde x} \lVert \Phi(\tilde x) - \Phi(x) \rVert / \lVert \Phi(x) \rVert`, over samples of a
    neighbourhood, here :math:`\lVert \tilde x - x \rVert_\infty \le r`; the divisor is 1 where the explanation is zero.

    C. Yeh, C. Hsieh, A. Suggala, D. Inouye, P. Ravikumar, "On the (in)fidelity and sensitivity of explanations", 2019,
    arXiv:1901.09392.

    Args:
        explanation_func: such as the ``attribute`` of a method: takes inputs in the form of ``inputs``, and ``kwargs``;
            returns a tensor, or a structure of tensors, with a row per example.
        inputs: tensor ``(B, *)``, tuple, dict or dataclass.
        perturb_func: gets the inputs, each example several times in a row, ``(n, *)``, bare when there is one tensor,
            and the radius if it has a second parameter; returns them perturbed. Default
            :func:`default_perturb_func`: uniform noise.
        perturb_radius: ``r`` in units of the inputs (default 0.02).
        n_perturb_samples: number of perturbations of each example (default 10).
        norm_ord: order of the norm of all attributions of an example in one vector: ``"fro"`` (default) for the root of
            the sum of squares, or a number as for ``torch.linalg.vector_norm``.
        max_examples_per_batch: most perturbed examples to explain at once; None (default) for all, in groups only where
            their inputs would not fit.
        kwargs: passed to ``explanation_func``. For perturbed inputs the rows of ``target``, ``baselines``,
            ``additional_forward_args`` and ``feature_mask`` are repeated like their examples.

    Returns:
        Sensitivities ``(B,)``: 0 for an explanation that does not move.

    Raises:
        InputError: when arguments do not fit.
        OutputError: when attributions have no row per example.

    Example:
        >>> import torch
        >>> sensitivity_max(lambda x: torch.ones_like(x), torch.tensor([[1.0, 2.0]]))
        tensor([0.])
    """
    order = _order(norm_ord)
    parsed = parse_inputs(inputs)
    _check_arguments(explanation_func, kwargs)
    whole = _Vectors(parts_of(explanation_func(inputs, **kwargs)), parsed.batch)
    size = torch.linalg.vector_norm(whole.rows, order, 1)
    size = torch.where(size == 0, torch.ones_like(size), size)
    largest = torch.zeros_like(size)
    for count in group_sizes(parsed, n_perturb_samples, max_examples_per_batch):
        rows = repeated(parsed.batch, count)
        changed = _changed(perturb_func, parsed, rows, perturb_radius)
        repeats = {k: _expanded(v, rows, k) if k in OF_EXAMPLES else v for k, v in kwargs.items()}
        found = _Vectors(parts_of(explanation_func(changed, **repeats)), rows.count)
        if found.rows.shape[1] != whole.rows.shape[1]:
            message = (
                f"Expected attributions of perturbed inputs like those of the inputs, {whole.rows.shape[1]} numbers "
                f"per row, got {found.rows.shape[1]}."
            )
            raise OutputError(message)
        moved = torch.linalg.vector_norm(found.rows - whole.rows.repeat_interleave(count, 0), order, 1)
        largest = torch.maximum(largest, moved.reshape(-1, count).amax(1))
    return (largest / size).to(whole.dtype)


class _Vectors:
    """Attributions as one vector per row, in double precision."""

    def __init__(self, parts: Tensors, count: int) -> None:
        for part in parts:
            if part.dim() == 0 or len(part) != count:
                message = (
                    f"Expected explanation_func to return attributions with a row for each of {count} examples in dim "
                    f"0, got {describe(part)}."
                )
                raise OutputError(message)
        self.rows = torch.cat([p.detach().reshape(count, -1).double() for p in parts], 1)
        kinds = [p.dtype for p in parts if p.dtype.is_floating_point]
        self.dtype = kinds[0] if kinds else torch.get_default_dtype()


def _order(norm_ord: Any) -> float:
    if norm_ord == "fro":
        return 2.0
    if isinstance(norm_ord, bool) or not isinstance(norm_ord, (int, float)):
        message = (
            f"Expected norm_ord to be 'fro' or a number such as 1, 2 or float('inf'), the order of a vector norm; got "
            f"{norm_ord!r}."
        )
        raise InputError(message)
    return float(norm_ord)


def _check_arguments(explanation_func: object, arguments: dict[str, Any]) -> None:
    if not callable(explanation_func):
        message = (
            f"Expected a function as explanation_func, such as IntegratedGradients(model).attribute, got "
            f"{describe(explanation_func)}."
        )
        raise InputTypeError(message)
    if isinstance(arguments.get("target"), str):
        message = (
            f"target={arguments['target']!r} would choose other classes for perturbed inputs: pass the classes, such "
            "as model(inputs).argmax(1)."
        )
        raise InputError(message)


def _changed(perturb_func: Callable[..., Any], inputs: Inputs, rows: Rows, radius: float) -> Any:
    """Perturbed inputs for ``rows``, in the form of the inputs."""
    examples = tuple(rows.pick(t.detach()) for t in inputs.tensors)
    given = (in_form(inputs, examples), radius) if takes_more(perturb_func) else (in_form(inputs, examples),)
    perturbed = parts_of(perturb_func(*given), inputs.names)
    shapes = [tuple(p.shape) for p in perturbed]
    if shapes != [tuple(e.shape) for e in examples]:
        message = (
            f"Expected perturb_func to return tensors of the shapes {[tuple(e.shape) for e in examples]} that it was "
            f"given, got {shapes}."
        )
        raise InputError(message)
    return inputs.restore(perturbed)


def _expanded(value: Any, rows: Rows, name: str) -> Any:
    """An argument of the explanation function with its rows repeated; what has no row per example stays."""
    if isinstance(value, tuple) and name != "target":
        return tuple(_expanded(v, rows, name) for v in value)
    if isinstance(value, dict):
        return {k: _expanded(v, rows, name) for k, v in value.items()}
    if isinstance(value, list):
        return rows.pick_list(value) if name == "target" and len(value) == rows.batch else value
    return rows.pick_constant(value)
