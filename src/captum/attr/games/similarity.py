"""Similarities of perturbed inputs: the exponential kernel of LIME, one pair at a time and for whole games at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.games.features import Groups
from captum.attr.games.fills import ConstantReady
from captum.attr.games.game import Game
from captum.errors import InputError

MODES = ("cosine", "euclidean")


class ExponentialKernel:
    r"""Similarity :math:`\exp(-d^2 / (2 w^2))` for a distance ``d`` of flattened inputs.

    Args:
        distance_mode: ``"cosine"`` (one minus the cosine) or ``"euclidean"``.
        kernel_width: ``w``.
    """

    def __init__(self, distance_mode: str = "cosine", kernel_width: float = 1.0) -> None:
        self.distance_mode = distance_mode
        self.kernel_width = kernel_width

    def __call__(self, original_inp: Any, perturbed_inp: Any, interpretable_sample: Any = None, **kwargs: Any) -> float:
        """Similarity of two inputs, tensors or tuples of tensors."""
        del interpretable_sample, kwargs
        x, y = _flat(original_inp), _flat(perturbed_inp)
        return float(self.of_products(x @ x, x @ y, y @ y))

    def of_products(self, own: Tensor, mixed: Tensor, other: Tensor) -> Tensor:
        """Similarity from the inner products x·x, x·y and y·y."""
        if self.distance_mode == "cosine":
            norms = own.clamp(min=1e-16).sqrt() * other.clamp(min=1e-16).sqrt()
            distance = 1 - mixed / norms
        elif self.distance_mode == "euclidean":
            distance = (own - 2 * mixed + other).clamp(min=0).sqrt()
        else:
            message = f"Expected distance_mode to be one of {MODES}, got {self.distance_mode!r}."
            raise InputError(message)
        return torch.exp(-(distance**2) / (2 * self.kernel_width**2))


def get_exp_kernel_similarity_function(distance_mode: str = "cosine", kernel_width: float = 1.0) -> ExponentialKernel:
    r"""The similarity :math:`\exp(-d^2 / (2 w^2))` for LIME.

    Args:
        distance_mode: ``"cosine"`` (default) or ``"euclidean"`` distance of the flattened inputs.
        kernel_width: ``w`` (default 1).

    Returns:
        A function ``(original_inp, perturbed_inp, interpretable_sample, **kwargs) -> float``.
    """
    return ExponentialKernel(distance_mode, kernel_width)


def _flat(value: Any) -> Tensor:
    parts = value if isinstance(value, (tuple, list)) else (value,)
    if not all(isinstance(p, Tensor) for p in parts):
        message = f"Expected tensors to compare, got {describe(value)}."
        raise InputError(message)
    return torch.cat([p.reshape(-1).double().cpu() for p in parts])


def similarities(kernel: ExponentialKernel, game: Game, coalitions: Tensor, joint: bool) -> Tensor:
    """Similarity of every perturbed input to the original, ``(K, B)``, or ``(K, 1)`` for the batch as one input.

    With constant fills the inner products are linear in the coalition: no perturbed input is made.
    """
    features, fill = game.features, game.fill
    if isinstance(features, Groups) and isinstance(fill, ConstantReady):
        sums = _group_sums(features, game.variable.values, fill.bases, game.batch)
        products = [_linear(coalitions, kept, gone) for kept, gone in sums]
    else:
        products = _direct(game, coalitions)
    if joint:
        products = [p.sum(1, keepdim=True) for p in products]
    own, mixed, other = products
    return kernel.of_products(own, mixed, other)


def _group_sums(
    features: Groups, values: tuple[Tensor, ...], bases: tuple[Tensor, ...], batch: int
) -> list[tuple[Tensor, Tensor]]:
    """For x·x, x·y and y·y: what each group adds when it is kept and when it is filled, ``(B, M)`` each."""
    own, mixed, other = (torch.zeros((batch, features.players), dtype=torch.float64, device="cpu") for _ in range(3))
    for ids, value, base in zip(features.ids, values, bases, strict=True):
        width = math.prod(value.shape[1:])
        x = finite(value).expand(batch, *value.shape[1:]).reshape(batch, width)
        b = finite(base).expand(batch, *base.shape[1:]).reshape(batch, width)
        place = ids.reshape(len(ids), width).expand(batch, width)
        own.scatter_add_(1, place, x * x)
        mixed.scatter_add_(1, place, x * b)
        other.scatter_add_(1, place, b * b)
    return [(own, own), (own, mixed), (own, other)]


def finite(tensor: Tensor) -> Tensor:
    """In double precision on the CPU; a NaN or inf baseline marks a missing value and counts as 0."""
    return torch.nan_to_num(tensor.detach().to("cpu", torch.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _linear(coalitions: Tensor, kept: Tensor, gone: Tensor) -> Tensor:
    """``Σ_i z_i kept_i + (1 − z_i) gone_i``, ``(K, B)``."""
    members = coalitions.double()
    if members.dim() == 2:
        return members @ (kept - gone).T + gone.sum(1)
    return torch.einsum("kbm,bm->kb", members, kept - gone) + gone.sum(1)


def _direct(game: Game, coalitions: Tensor) -> list[Tensor]:
    """The inner products from the perturbed inputs themselves, a few coalitions at a time."""
    x = torch.cat([finite(v).reshape(game.batch, -1) for v in game.variable.values], 1)
    step = max(1, (1 << 22) // max(1, x.numel()))
    parts: list[Tensor] = []
    for block in coalitions.split(step):
        tensors, _ = game.filled(block)
        y = torch.cat([finite(t).reshape(len(block), game.batch, -1) for t in tensors], 2)
        parts.append(torch.stack([(x * x).sum(1).expand(len(block), -1), (x * y).sum(2), (y * y).sum(2)]))
    return list(torch.cat(parts, 1))
