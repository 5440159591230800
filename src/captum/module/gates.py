"""What stochastic gates share: elements of an input are multiplied by gates, and open gates cost."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.errors import InputError, InputTypeError, MaskError

__all__ = ["StochasticGatesBase"]


def _each(values: Tensor) -> Tensor:
    return values


REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"none": _each, "mean": torch.mean, "sum": torch.sum}


class StochasticGatesBase(nn.Module, ABC):
    r"""Gates in [0, 1], one for each element of an example or for each group of elements.

    ``forward(x)`` gives :math:`x \odot z` and the regulariser :math:`\lambda \sum_i P(z_i > 0)`. In training ``z`` is
    drawn anew for each row; in evaluation it is fixed. A kind of gates defines ``_sample_gate_values(batch_size)``,
    ``(B, n)``, ``_get_gate_values()`` and ``_get_gate_active_probs()``, ``(n,)`` each.

    Args:
        n_gates: number of gates.
        mask: integer tensor that broadcasts to the inputs, the gate of each element, ``0…n_gates−1``; None (default)
            for a gate per element of an example.
        reg_weight: λ, the weight of the regulariser (default 1).
        reg_reduction: how probabilities are reduced: ``"sum"`` (default), ``"mean"`` or ``"none"``.

    Raises:
        InputError: when an argument is out of range; :class:`~captum.errors.MaskError` for the mask.
    """

    def __init__(
        self, n_gates: int, mask: Tensor | None = None, reg_weight: float = 1.0, reg_reduction: str = "sum"
    ) -> None:
        super().__init__()
        if isinstance(n_gates, bool) or not isinstance(n_gates, int) or n_gates < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
            message = f"Expected n_gates to be an int of at least 1, got {n_gates!r}."
            raise InputError(message)
        if reg_reduction not in REDUCTIONS:
            message = f"Expected reg_reduction to be one of {', '.join(REDUCTIONS)}, got {reg_reduction!r}."
            raise InputError(message)
        self.register_buffer("mask", None if mask is None else _checked(mask, n_gates))
        self.mask: Tensor | None
        self.reg_reduction = REDUCTIONS[reg_reduction]
        self.n_gates = n_gates
        self.reg_weight = reg_weight

    def forward(self, input_tensor: Tensor) -> tuple[Tensor, Tensor]:
        """The gated input, and the regulariser.

        Args:
            input_tensor: ``(B, *)``.

        Returns:
            The input times its gates, ``(B, *)``; and λ times the reduced probabilities that gates are open, a scalar,
            or ``(n,)`` without reduction.

        Raises:
            InputError: when the input has no batch dim, or does not fit the gates or the mask.
        """
        ids = self._ids(input_tensor)
        rows = len(input_tensor)
        gates = self._sample_gate_values(rows) if self.training else self._get_gate_values().expand(rows, -1)
        gates = gates.clamp(0, 1)
        own = gates if ids is None else gates.gather(1, ids)
        cost = self.reg_weight * self.reg_reduction(self._get_gate_active_probs())
        return input_tensor * own.reshape(input_tensor.shape), cost

    def get_gate_values(self, clamp: bool = True) -> Tensor:
        """The gates as evaluation uses them.

        Args:
            clamp: whether to cut them to [0, 1] (default).

        Returns:
            ``(n,)``, detached.
        """
        values = self._get_gate_values().detach()
        return values.clamp(0, 1) if clamp else values.clone()

    def get_gate_active_probs(self) -> Tensor:
        """The probability of each gate to be above zero in training, ``(n,)``, detached."""
        return self._get_gate_active_probs().detach()

    def extra_repr(self) -> str:
        """What printing shows."""
        return f"n_gates={self.n_gates}, reg_weight={self.reg_weight}"

    @abstractmethod
    def _sample_gate_values(self, batch_size: int) -> Tensor:
        """Draw gates ``(B, n)``; they need not lie in [0, 1]."""

    @abstractmethod
    def _get_gate_values(self) -> Tensor:
        """Gates ``(n,)`` without chance; they need not lie in [0, 1]."""

    @abstractmethod
    def _get_gate_active_probs(self) -> Tensor:
        """Probabilities ``(n,)`` of gates to be above zero."""

    def _ids(self, inputs: Tensor) -> Tensor | None:
        """The gate of each element ``(B, n elements)``; None where they are counted through."""
        shape = tuple(inputs.shape)
        if inputs.dim() < 2:
            message = f"Expected an input with the batch in dim 0 and elements after it, got shape {shape}; add a dim."
            raise InputError(message)
        if self.mask is None:
            elements = math.prod(shape[1:])
            if elements != self.n_gates:
                message = (
                    f"Expected {self.n_gates} elements per example, one for each gate, got {elements} in {shape}. "
                    "Pass a mask to let elements share gates."
                )
                raise InputError(message)
            return None
        try:
            return self.mask.expand(shape).flatten(1)
        except RuntimeError:
            message = (
                f"Expected an input to which the mask of shape {tuple(self.mask.shape)} broadcasts from the right, "
                f"got shape {shape}."
            )
            raise InputError(message) from None


def _checked(mask: object, gates: int) -> Tensor:
    """Gate ids as int64."""
    if not isinstance(mask, Tensor) or mask.dtype.is_floating_point or mask.dtype.is_complex or not mask.numel():
        message = f"Expected mask to be an integer Tensor of gate ids 0…{gates - 1}, got {describe(mask)}."
        raise MaskError(message)
    low, high = (int(end) for end in mask.long().aminmax())
    if low < 0 or high != gates - 1:
        message = f"Expected gate ids 0…{gates - 1} in mask, one for each of {gates} gates; got {low}…{high}."
        raise MaskError(message)
    return mask.long()


def pretrained(values: object, name: str) -> nn.Parameter:
    """Stored values of gates ``(n,)`` as a parameter."""
    if not isinstance(values, Tensor) or values.dim() != 1 or not values.dtype.is_floating_point:
        message = f"Expected {name} to be a floating-point Tensor (n_gates,), got {describe(values)}."
        raise InputTypeError(message)
    return nn.Parameter(values.detach().clone())
