"""Derivatives: leaves to differentiate by, and gradients that are zero where a variable was not used."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from captum.errors import CaptumWarning, OutputError


def leaf(tensor: Tensor, keep_graph: bool = False) -> Tensor:
    """A tensor to differentiate by: a fresh leaf, or the tensor itself when it is part of a graph to keep."""
    if keep_graph and tensor.requires_grad:
        return tensor
    tensor = tensor.detach()
    return (tensor.clone() if tensor.is_inference() else tensor).requires_grad_()


def differentiate(
    values: Tensor,
    variables: Sequence[Tensor],
    names: Sequence[str] = (),
    *,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    weights: Tensor | None = None,
) -> tuple[Tensor, ...]:
    """Gradients of ``Σ weights · values`` by the variables; zeros and one warning for a variable that was not used."""
    if not values.requires_grad:
        message = (
            "The model's output does not depend on its inputs in a differentiable way: some code on the way runs under "
            "torch.no_grad(), detaches, or rounds to integers. Make it differentiable, or use a perturbation method."
        )
        raise OutputError(message)
    # given weights of its own, torch.autograd.grad compares shapes with sympy, whose import takes 0.4 s
    total = (values if weights is None else weights * values).sum()
    grads: list[Tensor | None] = list(
        torch.autograd.grad(total, variables, create_graph=create_graph, retain_graph=retain_graph, allow_unused=True)
    )
    used = tuple([g for g in grads if g is not None])
    if len(used) < len(grads):
        unused = [n for g, n in zip(grads, names, strict=False) if g is None]
        if unused:
            message = f"The score does not use {', '.join(unused)}: their attributions are zero."
            warnings.warn(message, CaptumWarning, stacklevel=2)
        return tuple(torch.zeros_like(v) if g is None else g for g, v in zip(grads, variables, strict=True))
    return used
