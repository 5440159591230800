"""Activation checkpointing: parts of a model that run again in the backward pass, where no rules are at work.

Checkpoints (``use_reentrant=False``) put hooks on saved tensors: what a part saves is thrown away, and unpacking it
runs the part again. Operators under rules keep what they save instead, so that nothing runs again.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from captum.errors import UnknownOperatorError

_top_hooks: Callable[[bool], object] | None = getattr(
    getattr(torch._C, "_autograd", None), "_top_saved_tensors_default_hooks", None
)  # no public name


def is_checkpointed() -> bool:
    """Whether hooks on saved tensors are at work."""
    return _top_hooks is not None and _top_hooks(True) is not None


def everything_kept() -> saved_tensors_hooks:
    """A block whose operators keep what they save."""
    return saved_tensors_hooks(_same, _same)


def _same(tensor: Tensor) -> Tensor:
    return tensor


def refuse_reentrant(node: str, caller: Callable[[], str]) -> None:
    """Complain about a node of checkpoints that hide their operators from rules, and from ``torch.autograd.grad``.

    Args:
        node: name of a node of the graph.
        caller: tells who reads what the node gave.

    Raises:
        UnknownOperatorError: when the node is one of theirs.
    """
    if node == "CheckpointFunctionBackward":
        message = (
            f"Activation checkpointing with use_reentrant=True hides operators whose result {caller()} reads. Pass "
            "use_reentrant=False to torch.utils.checkpoint, or switch checkpointing off."
        )
        raise UnknownOperatorError(message)
