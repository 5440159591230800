"""Similarities of perturbed inputs: the exponential kernel of LIME, one pair at a time and for whole games at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from captum._engine.values import describe
from captum.attr.games.features import Groups
from captum.attr.games.fills import BackgroundReady, ConstantReady
from captum.attr.games.game import Game
from captum.attr.games.play import BLOCK_ENTRIES
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
    return torch.cat([_real(p).reshape(-1).double().cpu() for p in parts])


def _real(tensor: Tensor) -> Tensor:
    """Complex numbers as pairs, whose inner product is the real part of theirs."""
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


def similarities(kernel: ExponentialKernel, game: Game, coalitions: Tensor, joint: bool) -> Tensor:
    """Similarity of every perturbed input to the original, ``(K, B)``, or ``(K, 1)`` for the batch as one input.

    Of several fillings of a coalition it is the mean. With constant fills the inner products are linear in the
    coalition: no perturbed input is made.
    """
    features, fill = game.features, game.fill
    if isinstance(features, Groups) and isinstance(fill, (ConstantReady, BackgroundReady)):
        fillings = [fill.bases] if isinstance(fill, ConstantReady) else _rows_of(fill.samples)
        found = [_linear(features, game, coalitions, bases) for bases in fillings]
        products = [torch.stack(parts, 1) for parts in zip(*found, strict=True)]
    else:
        products = _direct(game, coalitions)
    if joint:
        products = [p.sum(2, keepdim=True) for p in products]
    own, mixed, other = products
    return kernel.of_products(own, mixed, other).mean(1)


def _rows_of(samples: tuple[Tensor, ...]) -> list[tuple[Tensor, ...]]:
    return [tuple(sample[row : row + 1] for sample in samples) for row in range(len(samples[0]))]


def _linear(features: Groups, game: Game, coalitions: Tensor, bases: tuple[Tensor, ...]) -> list[Tensor]:
    """x·x, x·y and y·y, ``(K, B)`` each, for a filling that does not depend on the coalition."""
    sums = _group_sums(features, game.variable.values, bases, game.batch)
    parts: list[Tensor] = []
    for block in coalitions.split(max(1, BLOCK_ENTRIES // max(1, coalitions[:1].numel()))):
        members = block.double()
        changes = [kept - gone for kept, gone in sums]
        shared = members.dim() == 2
        rises = [members @ c.T if shared else torch.einsum("kbm,bm->kb", members, c) for c in changes]
        parts.append(torch.stack(rises, 0))
    return [rise + gone.sum(1) for rise, (_, gone) in zip(torch.cat(parts, 1), sums, strict=True)]


def _group_sums(
    features: Groups, values: tuple[Tensor, ...], bases: tuple[Tensor, ...], batch: int
) -> list[tuple[Tensor, Tensor]]:
    """For x·x, x·y and y·y: what each group adds when it is kept and when it is filled, ``(B, M)`` each."""
    own, mixed, other = (torch.zeros((batch, features.players), dtype=torch.float64, device="cpu") for _ in range(3))
    for ids, value, base in zip(features.ids, values, bases, strict=True):
        width = math.prod(value.shape[1:])
        x, b = (finite(t.to(value.dtype) if value.is_complex() else t) for t in (value, base))
        x, b = (t.expand(batch, *t.shape[1:]).reshape(batch, width, -1) for t in (x, b))
        place = ids.reshape(len(ids), width).expand(batch, width)
        own.scatter_add_(1, place, (x * x).sum(2))
        mixed.scatter_add_(1, place, (x * b).sum(2))
        other.scatter_add_(1, place, (b * b).sum(2))
    return [(own, own), (own, mixed), (own, other)]


def finite(tensor: Tensor) -> Tensor:
    """In double precision on the CPU, complex numbers as pairs.

    A NaN or inf baseline marks a missing value and counts as 0.
    """
    return torch.nan_to_num(_real(tensor.detach()).to("cpu", torch.float64), nan=0.0, posinf=0.0, neginf=0.0)


def _direct(game: Game, coalitions: Tensor) -> list[Tensor]:
    """x·x, x·y and y·y, ``(K, draws, B)`` each, from the perturbed inputs themselves, a few coalitions at a time."""
    x = torch.cat([finite(v).reshape(game.batch, -1) for v in game.variable.values], 1)
    draws = game.fill.draws
    step = max(1, (1 << 22) // max(1, x.numel() * draws))
    parts: list[Tensor] = []
    for block in coalitions.split(step):
        tensors, _ = game.filled(block.repeat_interleave(draws, 0))
        y = torch.cat([finite(t).reshape(len(block), draws, game.batch, -1) for t in tensors], 3)
        parts.append(torch.stack([(x * x).sum(1).expand(y.shape[:3]), (x * y).sum(3), (y * y).sum(3)]))
    return list(torch.cat(parts, 1))
