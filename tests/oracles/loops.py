"""Slow and plain: derivatives of one score and one layer value at one point at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

Function = Callable[[Tensor], Tensor]


class Chain(nn.Module):
    """``head(layer(x))``: the layer cuts the graph, so both halves can be called by hand."""

    def __init__(self, layer: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(x))


def chain(seed: int = 0) -> Chain:
    """A smooth net of two halves in double precision: 3 features, 4 units, 2 outputs."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layer = nn.Sequential(nn.Linear(3, 4), nn.Tanh())
        head = nn.Sequential(nn.Linear(4, 5), nn.Softplus(), nn.Linear(5, 2))
        return Chain(layer, head).double().eval()


def gradient(function: Function, point: Tensor) -> Tensor:
    """Gradient of a scalar function of one example."""
    leaf = point.detach().clone().requires_grad_(True)
    (found,) = torch.autograd.grad(function(leaf[None])[0], leaf)
    return found


def nodes_and_weights(method: str, n: int) -> list[tuple[float, float]]:
    """The quadrature rules on [0, 1], each with weights that sum to 1."""
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n)
        return [((1 + node) / 2, weight / 2) for node, weight in zip(nodes, weights, strict=True)]
    if method == "riemann_left":
        return [(k / n, 1 / n) for k in range(n)]
    if method == "riemann_right":
        return [((k + 1) / n, 1 / n) for k in range(n)]
    if method == "riemann_middle":
        return [((k + 0.5) / n, 1 / n) for k in range(n)]
    inner = [(k / (n - 1), 1 / (n - 1)) for k in range(1, n - 1)]
    return [(0.0, 0.5 / (n - 1)), *inner, (1.0, 0.5 / (n - 1))]


METHODS = ("gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid")


def path_gradient(function: Function, x: Tensor, x0: Tensor, method: str, n: int) -> Tensor:
    """``sum_k w_k f'(x0 + a_k (x - x0))`` for one example."""
    total = torch.zeros_like(x)
    for alpha, weight in nodes_and_weights(method, n):
        total += weight * gradient(function, x0 + alpha * (x - x0))
    return total


def rows(function: Callable[..., Tensor], *batches: Tensor) -> Tensor:
    """Apply to each example and stack."""
    return torch.stack([function(*example) for example in zip(*batches, strict=True)])
