"""Quadrature on [0, 1]: nodes and weights that sum to one."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum.errors import InputError

__all__ = [
    "METHODS",
    "SUPPORTED_METHODS",
    "SUPPORTED_RIEMANN_METHODS",
    "Riemann",
    "approximation_parameters",
    "gauss_legendre_builders",
    "nodes_and_weights",
    "riemann_builders",
]

Builder = Callable[[int], list[float]]

#: Up to here NumPy computes the nodes.
FEW_NODES = 128


class Riemann(Enum):
    """Where in its cell a Riemann sum reads the integrand."""

    left = 1
    right = 2
    middle = 3
    trapezoid = 4


SUPPORTED_RIEMANN_METHODS = ["riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]
SUPPORTED_METHODS = [*SUPPORTED_RIEMANN_METHODS, "gausslegendre"]
METHODS = tuple(SUPPORTED_METHODS)


def check_steps(n_steps: int, method: str) -> None:
    """Require a known method and enough steps for it."""
    if method not in METHODS:
        message = f"Expected as method one of {', '.join(METHODS)}; got {method!r}."
        raise InputError(message)
    least = 1 if method == "gausslegendre" else 2
    if isinstance(n_steps, bool) or not isinstance(n_steps, (int, np.integer)):  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
        message = f"Expected n_steps as an int (or 'auto', where a method has it), got {n_steps!r}."
        raise InputError(message)
    if n_steps < least:
        above = "zero" if least == 1 else "one"
        message = f"The number of steps must be larger than {above} for {method}: n_steps >= {least}, got {n_steps!r}."
        raise InputError(message)


@lru_cache(maxsize=64)
def nodes_and_weights(n_steps: int, method: str) -> tuple[Tensor, Tensor]:
    r"""Nodes :math:`\alpha_k` and weights :math:`w_k` with :math:`\int_0^1 g \approx \sum_k w_k g(\alpha_k)`.

    Args:
        n_steps: number of nodes ``K``.
        method: one of ``METHODS``.

    Returns:
        Two float64 tensors ``(K,)`` on the CPU; the weights sum to 1.

    Raises:
        InputError: for an unknown method or too few steps.

    Example:
        >>> nodes_and_weights(2, "riemann_trapezoid")
        (tensor([0., 1.], dtype=torch.float64), tensor([0.5000, 0.5000], dtype=torch.float64))
    """
    check_steps(n_steps, method)
    count = n_steps
    if method == "gausslegendre":
        nodes, weights = gauss_legendre(count)
        return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)
    steps = torch.arange(count, dtype=torch.float64, device="cpu")
    if method == "riemann_trapezoid":
        ends = torch.full((count,), 1 / (count - 1), dtype=torch.float64, device="cpu")
        ends[0] /= 2
        ends[-1] /= 2
        return steps / (count - 1), ends
    shift = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}[method]
    return (steps + shift) / count, torch.full((count,), 1 / count, dtype=torch.float64, device="cpu")


def gauss_legendre(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Nodes and weights of Gauss-Legendre quadrature on [−1, 1].

    NumPy finds them as eigenvalues, in O(n³); many nodes are found by Newton's method on the three-term recurrence
    :math:`(k+1) P_{k+1} = (2k+1) x P_k - k P_{k-1}`, in O(n²).
    """
    if count <= FEW_NODES:
        return np.polynomial.legendre.leggauss(count)
    x = np.cos(np.pi * (np.arange(count, 0, -1) - 0.25) / (count + 0.5))
    slope = np.ones_like(x)
    for _ in range(6):
        before, now = np.ones_like(x), x.copy()
        for k in range(1, count):
            before, now = now, ((2 * k + 1) * x * now - k * before) / (k + 1)
        slope = count * (before - x * now) / (1 - x * x)
        x -= now / slope
    return x, 2 / ((1 - x * x) * slope * slope)


def riemann_builders(method: Riemann = Riemann.trapezoid) -> tuple[Builder, Builder]:
    """Functions ``n -> weights`` and ``n -> nodes`` of a Riemann sum, as lists of floats."""
    return approximation_parameters(f"riemann_{method.name}")


def gauss_legendre_builders() -> tuple[Builder, Builder]:
    """Functions ``n -> weights`` and ``n -> nodes`` of Gauss-Legendre quadrature, as lists of floats."""
    return approximation_parameters("gausslegendre")


def approximation_parameters(method: str) -> tuple[Builder, Builder]:
    """Functions ``n -> weights`` and ``n -> nodes`` of a method, as lists of floats.

    Args:
        method: one of ``METHODS``.

    Raises:
        InputError: for an unknown method.
    """
    if method not in METHODS:
        message = f"Expected as method one of {', '.join(METHODS)}; got {method!r}."
        raise InputError(message)
    return lambda n: _listed(n, method, 1), lambda n: _listed(n, method, 0)


def _listed(n_steps: int, method: str, part: int) -> list[float]:
    numbers: list[float] = nodes_and_weights(n_steps, method)[part].tolist()
    return numbers
