"""True conductances of the toy model, from the structure of the model alone.

On the ray ``a -> a x`` from the zero baseline the toy model's hidden values are ``a W1 x`` (no bias), so each ReLU is
on or off along the whole ray, decided by the sign of ``W1 x``. Every derivative is constant for ``a > 0``, and each
integral over ``a`` is its integrand.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.golden.toy import MODEL, X


def _open(x: Tensor) -> Tensor:
    return (x @ MODEL.lin1.weight.t() > 0).to(x.dtype)


def layer_conductance(x: Tensor = X, target: int = 0) -> Tensor:
    """``int dF/dy_j dy_j/da da = W2[t, j] 1[y_j > 0] y_j`` with ``y = W1 x``."""
    with torch.no_grad():
        return MODEL.lin2.weight[target] * _open(x) * (x @ MODEL.lin1.weight.t())


def neuron_conductance(j: int = 1, x: Tensor = X, target: int = 0) -> Tensor:
    """``int dF/dy_j dy_j/dx_i x_i da = W2[t, j] 1[y_j > 0] W1[j, i] x_i``."""
    with torch.no_grad():
        return MODEL.lin2.weight[target, j] * _open(x)[:, j : j + 1] * MODEL.lin1.weight[j] * x


def trapezoid_share(n: int = 50) -> float:
    """The share of the trapezoid rule's weight that lies off the node 0, where torch takes relu'(0) = 0."""
    return 1 - 0.5 / (n - 1)
