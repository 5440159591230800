"""Gates with Gaussian noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.module.gates import StochasticGatesBase, pretrained

__all__ = ["GaussianStochasticGates"]


class GaussianStochasticGates(StochasticGatesBase):
    r"""Gates :math:`z = \mathrm{clamp}(\mu + \epsilon, 0, 1)` with :math:`\epsilon \sim N(0, \sigma^2)`.

    :math:`P(z > 0) = \Phi(\mu / \sigma)`; the means μ are trained, from about 0.5.

    Y. Yamada, O. Lindenbaum, S. Negahban, Y. Kluger, "Feature selection using stochastic gates", 2018,
    arXiv:1810.04247.

    Args:
        n_gates: number of gates.
        mask: integer tensor that broadcasts to the inputs, the gate of each element; None (default) for a gate per
            element of an example.
        reg_weight: weight of the regulariser (default 1).
        std: σ, the standard deviation of the noise (default 0.5).
        reg_reduction: ``"sum"`` (default), ``"mean"`` or ``"none"``.

    Attributes:
        mu: the means, parameter ``(n,)``.

    Raises:
        InputError: when an argument is out of range.

    Example:
        >>> import torch
        >>> gates = GaussianStochasticGates(2).eval()
        >>> _ = gates.mu.data.copy_(torch.tensor([1.2, -0.1]))
        >>> gates(torch.tensor([[3.0, 4.0]]))[0]
        tensor([[3., 0.]], grad_fn=<MulBackward0>)
    """

    def __init__(
        self,
        n_gates: int,
        mask: Tensor | None = None,
        reg_weight: float = 1.0,
        std: float = 0.5,
        reg_reduction: str = "sum",
    ) -> None:
        super().__init__(n_gates, mask, reg_weight, reg_reduction)
        if not std > 0:
            message = f"Expected a positive standard deviation std, got {std!r}."
            raise InputError(message)
        self.std = std
        self.mu = nn.Parameter(torch.empty(n_gates).normal_(0.5, 0.01))

    @classmethod
    def _from_pretrained(cls, mu: Tensor, *args: Any, **kwargs: Any) -> GaussianStochasticGates:
        """Gates with stored means ``(n,)``; further arguments are those of the constructor after ``n_gates``."""
        values = pretrained(mu, "mu")
        gates = cls(len(values), *args, **kwargs)
        gates.mu = values
        return gates

    def extra_repr(self) -> str:
        """What printing shows."""
        return f"{super().extra_repr()}, std={self.std}"

    def _sample_gate_values(self, batch_size: int) -> Tensor:
        noise = torch.empty((batch_size, self.n_gates), dtype=self.mu.dtype, device=self.mu.device)
        return self.mu + noise.normal_(0, self.std)

    def _get_gate_values(self) -> Tensor:
        return self.mu

    def _get_gate_active_probs(self) -> Tensor:
        return torch.special.ndtr(self.mu / self.std)
