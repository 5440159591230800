"""The border of public methods: what the caller's state of torch must not change."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor

from captum._engine.values import Leaves

P = ParamSpec("P")
R = TypeVar("R")


def differentiable(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method differentiate although its caller is in inference mode; tensors made there are copied.

    Args:
        method: the method.
    """

    @functools.wraps(method)
    def outside(*args: P.args, **kwargs: P.kwargs) -> R:
        if not torch.is_inference_mode_enabled():
            return method(*args, **kwargs)
        with torch.inference_mode(mode=False):
            leaves = Leaves([], [])
            put_back = leaves.gather((args, kwargs), "arguments")
            args, kwargs = put_back(iter([ordinary(t) for t in leaves.tensors]))
            return method(*args, **kwargs)

    return outside


def ordinary(tensor: Tensor) -> Tensor:
    """A copy of a tensor made in inference mode, which autograd would refuse; others are unchanged."""
    return tensor.clone() if tensor.is_inference() else tensor
