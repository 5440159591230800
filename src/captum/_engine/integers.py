"""Integer inputs that no embedding reads: numbers, which the model takes as floats or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum.errors import InputTypeError

if TYPE_CHECKING:
    from captum._engine.place import Neuron
    from captum._engine.score import Score

_REFUSALS = (IndexError, RuntimeError, TypeError)


def as_floats(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Integer tensors in the default dtype, others as they are."""
    dtype = torch.get_default_dtype()
    return tuple(t if t.dtype.is_floating_point or t.dtype.is_complex else t.to(dtype) for t in tensors)


def takes(score: Score | Neuron, tensors: tuple[Tensor, ...]) -> bool:
    """Whether the model runs on these tensors."""
    try:
        _run(score, tensors)
    except _REFUSALS:
        return False
    return True


def check_floats(score: Score | Neuron, tensors: tuple[Tensor, ...], names: tuple[str, ...]) -> None:
    """Require that the model takes its integer inputs as floats, since no embedding reads them."""
    try:
        _run(score, tensors)
    except _REFUSALS as fault:
        message = (
            f"The inputs {list(names)} are integers that no embedding reads, and as floats the model "
            f"does not take them ({type(fault).__name__}: {fault}). Look tokens up with nn.Embedding, or use a "
            "Layer… method behind the look-up, or a perturbation method."
        )
        raise InputTypeError(message) from fault


def _run(score: Score | Neuron, tensors: tuple[Tensor, ...]) -> None:
    with torch.no_grad(), score.running():
        score.output(tuple(t.clone() for t in tensors), score.everyone())
