"""Gates with the hard concrete distribution."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from captum.errors import InputError
from captum.module.gates import StochasticGatesBase, pretrained

__all__ = ["BinaryConcreteStochasticGates"]


class BinaryConcreteStochasticGates(StochasticGatesBase):
    r"""Hard concrete gates: a binary concrete variable, stretched beyond [0, 1] and clamped.

    :math:`s = \sigma((\log u - \log(1 - u) + \log\alpha) / T)` with :math:`u \sim U(0, 1)`,
    :math:`z = \mathrm{clamp}(s (\zeta - \gamma) + \gamma, 0, 1)`; in evaluation :math:`s = \sigma(\log\alpha)`.
    :math:`P(z > 0) = \sigma(\log\alpha - T \log(-\gamma / \zeta))`; the :math:`\log\alpha` are trained, from about 0.

    C. Louizos, M. Welling, D. Kingma, "Learning sparse neural networks through L0 regularization", 2017,
    arXiv:1712.01312.

    Args:
        n_gates: number of gates.
        mask: integer tensor that broadcasts to the inputs, the gate of each element; None (default) for a gate per
            element of an example.
        reg_weight: weight of the regulariser (default 1).
        temperature: T, between 0 and 1 (default 2/3); smaller ones make gates harder.
        lower_bound: γ < 0, the lower end of the stretched interval (default −0.1).
        upper_bound: ζ > 1, the upper end (default 1.1).
        eps: u is drawn from ``[eps, 1 − eps]`` (default 1e-8).
        reg_reduction: ``"sum"`` (default), ``"mean"`` or ``"none"``.

    Attributes:
        log_alpha_param: log α, parameter ``(n,)``.

    Raises:
        InputError: when an argument is out of range.

    Example:
        >>> import torch
        >>> gates = BinaryConcreteStochasticGates(2).eval()
        >>> _ = gates.log_alpha_param.data.copy_(torch.tensor([5.0, -5.0]))
        >>> gates.get_gate_values()
        tensor([1., 0.])
    """

    def __init__(
        self,
        n_gates: int,
        mask: Tensor | None = None,
        reg_weight: float = 1.0,
        temperature: float = 2.0 / 3,
        lower_bound: float = -0.1,
        upper_bound: float = 1.1,
        eps: float = 1e-8,
        reg_reduction: str = "sum",
    ) -> None:
        super().__init__(n_gates, mask, reg_weight, reg_reduction)
        for name, value, fits, wanted in (
            ("temperature", temperature, 0 < temperature < 1, "between 0 and 1"),
            ("lower_bound", lower_bound, lower_bound < 0, "below 0"),
            ("upper_bound", upper_bound, upper_bound > 1, "above 1"),
            ("eps", eps, 0 <= eps < 0.5, "at least 0 and below 0.5"),
        ):
            if not fits:
                message = f"Expected {name} {wanted}, got {value!r}."
                raise InputError(message)
        self.temperature = temperature
        self.lower_bound = lower_bound
        self.upper_bound = upper_bound
        self.eps = eps
        self.active_prob_offset = temperature * math.log(-lower_bound / upper_bound)
        self.log_alpha_param = nn.Parameter(torch.empty(n_gates).normal_(0.0, 0.01))

    @classmethod
    def _from_pretrained(cls, log_alpha_param: Tensor, *args: Any, **kwargs: Any) -> BinaryConcreteStochasticGates:
        """Gates with stored log α ``(n,)``; further arguments are those of the constructor after ``n_gates``."""
        values = pretrained(log_alpha_param, "log_alpha_param")
        gates = cls(len(values), *args, **kwargs)
        gates.log_alpha_param = values
        return gates

    def extra_repr(self) -> str:
        """What printing shows."""
        return f"{super().extra_repr()}, temperature={self.temperature:.4g}"

    def _sample_gate_values(self, batch_size: int) -> Tensor:
        own = self.log_alpha_param
        chance = torch.empty((batch_size, self.n_gates), dtype=own.dtype, device=own.device)
        chance = chance.uniform_(self.eps, 1 - self.eps)
        finest = torch.finfo(own.dtype)  # ends that rounding makes 0 or 1 have no finite logit
        chance = chance.clamp(finest.tiny, 1 - finest.eps)
        return self._stretched(torch.sigmoid((torch.logit(chance) + own) / self.temperature))

    def _get_gate_values(self) -> Tensor:
        return self._stretched(torch.sigmoid(self.log_alpha_param))

    def _get_gate_active_probs(self) -> Tensor:
        return torch.sigmoid(self.log_alpha_param - self.active_prob_offset)

    def _stretched(self, values: Tensor) -> Tensor:
        return values * (self.upper_bound - self.lower_bound) + self.lower_bound
