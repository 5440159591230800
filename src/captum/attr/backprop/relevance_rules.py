"""Layer-wise relevance propagation through affine operators: one small class per rule.

With z the operator's output, a rule is a list of groups. A group shares R among its terms,
R_in = Σ_terms ± x' ⊙ Jᵀ(c R / (Σ_terms ± f(x'; w', b'))), with other values x', weights w' and biases b' in each term.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from captum.attr.backprop.affine import Affine
from captum.attr.backprop.slopes import at_least, is_half, some, widened
from captum.errors import InputError

__all__ = [
    "Alpha1_Beta0_Rule",
    "AlphaBetaRule",
    "EpsilonRule",
    "FlatRule",
    "GammaRule",
    "GeneralizedGammaRule",
    "Group",
    "IdentityRule",
    "NormRule",
    "PassRule",
    "PropagationRule",
    "Term",
    "WSquareRule",
    "ZBoxRule",
    "ZPlusRule",
]


@dataclass(slots=True)
class Term:
    """f(x'; w', b') with a sign."""

    x: Tensor
    weight: Tensor | None
    bias: Tensor | None
    sign: float = 1.0


@dataclass(slots=True)
class Group:
    """Terms that share c · R in proportion to what they contribute to the sum of them all; c may differ by output."""

    terms: list[Term]
    share: float | Tensor = 1.0


def stabilised(z: Tensor, epsilon: float) -> Tensor:
    """Z + ε sign(z), with sign(0) = 1."""
    return torch.copysign(z.new_full((), at_least(epsilon, z)), z).add_(z)


class PropagationRule(ABC):
    """How relevance passes an affine operator. Subclass it and say in :meth:`groups` what is shared among what.

    Set an instance as ``module.rule`` to use it for the operators of one module; it stays there.

    Attributes:
        epsilon: what is added to the size of denominators.
    """

    epsilon: float = 1e-9

    @abstractmethod
    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The groups of terms for values ``x`` at an operator; :class:`EpsilonRule` has the shortest.

        Args:
            x: the operator's input.
            affine: the operator: ``affine.apply(x, weight, bias)``, ``affine.weight`` (or None) and ``affine.bias``.
        """

    def propagate(self, x: Tensor, affine: Affine, relevance: Tensor) -> Tensor:
        """Relevance of the input ``x``, given that of the output.

        Args:
            x: the operator's input.
            affine: the operator.
            relevance: R of the output.
        """
        total = torch.zeros_like(x)
        for group in self.groups(x, affine):
            claims = group.share * relevance
            if not some(claims != 0):
                continue
            with torch.enable_grad():
                leaves = [t.x.detach().requires_grad_() for t in group.terms]
                parts = [
                    t.sign * affine.apply(leaf, t.weight, t.bias) for t, leaf in zip(group.terms, leaves, strict=True)
                ]
                z = parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)
            grads = torch.autograd.grad(z, leaves, claims / stabilised(z.detach(), self.epsilon))
            for term, grad in zip(group.terms, grads, strict=True):
                total = total + term.x * grad
        return total

    def __repr__(self) -> str:
        settings = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not isinstance(v, Tensor))
        return f"{type(self).__name__}({settings})"


class EpsilonRule(PropagationRule):
    """ε: R_i = x_i Σ_j w_ij R_j / (z_j + ε sign z_j). The bias keeps its share.

    Args:
        epsilon: ε (default 1e-9).
    """

    def __init__(self, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The operator as it is."""
        return [Group([Term(x, affine.weight, affine.bias)])]


class GammaRule(PropagationRule):
    """γ for non-negative inputs: the weights are w + γ max(w, 0); the bias is as it is.

    Where inputs have both signs the denominator can vanish: use :class:`GeneralizedGammaRule` there.

    Args:
        gamma: γ (default 0.25).
        set_bias_to_zero: whether to leave the bias out, so that relevance is conserved.
        epsilon: stabiliser.
    """

    def __init__(self, gamma: float = 0.25, set_bias_to_zero: bool = False, *, epsilon: float = 1e-9) -> None:
        self.gamma = gamma
        self.set_bias_to_zero = set_bias_to_zero
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The operator with raised positive weights."""
        weight = None if affine.weight is None else affine.weight + self.gamma * affine.weight.clamp(min=0)
        return [Group([Term(x, weight, None if self.set_bias_to_zero else affine.bias)])]


class GeneralizedGammaRule(GammaRule):
    r"""γ for inputs of any sign: contributions of the sign of the output are raised.

    With c_ij = x_i w_ij and the bias as one more contribution,
    R_i = Σ_j (c_ij + γ c_ij^±) / (z_j + γ Σ_i c_ij^±) R_j, where ± is the sign of z_j. The denominator has the sign of
    z_j and at least its size, so that it vanishes only where the output does; :class:`GammaRule` has this for inputs ≥
    0 and outputs > 0 alone.

    L. Andéol et al., "Learning domain invariant representations by joint Wasserstein distance minimization", 2021,
    arXiv:2106.04923.

    Args:
        gamma: γ (default 0.25).
        set_bias_to_zero: whether to leave the bias out of the contributions, so that relevance is conserved.
        epsilon: stabiliser.
    """

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """Outputs > 0 and the others, each with contributions of its sign raised."""
        bias = None if self.set_bias_to_zero else affine.bias
        with torch.no_grad():
            rises = (affine.apply(x, affine.weight, bias) > 0).to(x.dtype)
        raised, lowered = self._toward(affine.weight, 1), self._toward(affine.weight, -1)
        up = [Term(x.clamp(min=0), raised, self._toward(bias, 1))]
        down = [Term(x.clamp(min=0), lowered, self._toward(bias, -1))]
        if some(x < 0):
            up.append(Term(x.clamp(max=0), lowered, None))
            down.append(Term(x.clamp(max=0), raised, None))
        return [Group(up, rises), Group(down, 1 - rises)]

    def _toward(self, values: Tensor | None, sign: int) -> Tensor | None:
        """Values with those of a sign raised."""
        if values is None:
            return None
        return values + self.gamma * (values.clamp(min=0) if sign > 0 else values.clamp(max=0))


class Alpha1_Beta0_Rule(PropagationRule):  # noqa: N801  # the name that published code uses
    """α1β0 for non-negative inputs: the weights are max(w, 0); the bias is as it is.

    Args:
        set_bias_to_zero: whether to leave the bias out.
        epsilon: stabiliser.
    """

    def __init__(self, set_bias_to_zero: bool = False, *, epsilon: float = 1e-9) -> None:
        self.set_bias_to_zero = set_bias_to_zero
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The operator with its positive weights only."""
        bias = None if self.set_bias_to_zero else affine.bias
        return [Group([Term(x, _positive(affine.weight), bias)])]


class AlphaBetaRule(PropagationRule):
    """αβ: R_i = Σ_j (α (x_i w_ij)⁺ / z_j⁺ − β (x_i w_ij)⁻ / z_j⁻) R_j with α − β = 1, for inputs of any sign.

    Where an output has no contributions of one sign, that sign's share is lost.

    Args:
        alpha: α (default 2).
        beta: β (default 1).
        set_bias_to_zero: whether to leave the bias out.
        epsilon: stabiliser.

    Raises:
        InputError: unless α − β = 1.
    """

    def __init__(
        self, alpha: float = 2.0, beta: float = 1.0, set_bias_to_zero: bool = False, *, epsilon: float = 1e-9
    ) -> None:
        if alpha < 0 or beta < 0 or abs(alpha - beta - 1) > 1e-9:
            message = f"Expected alpha, beta ≥ 0 with alpha − beta = 1, got {alpha} and {beta}."
            raise InputError(message)
        self.alpha = alpha
        self.beta = beta
        self.set_bias_to_zero = set_bias_to_zero
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """Excitation and inhibition, each with its own denominator."""
        up, down = x.clamp(min=0), x.clamp(max=0)
        bias = None if self.set_bias_to_zero else affine.bias
        if affine.weight is None:
            return [Group([Term(x, None, bias)])]
        excites = Group(
            [Term(up, _positive(affine.weight), _positive(bias)), Term(down, _negative(affine.weight), None)]
        )
        inhibits = Group(
            [Term(up, _negative(affine.weight), _negative(bias)), Term(down, _positive(affine.weight), None)]
        )
        excites.share, inhibits.share = self.alpha, -self.beta
        return [excites, inhibits] if self.beta else [excites]


class ZPlusRule(AlphaBetaRule):
    """z⁺: αβ with α = 1, β = 0.

    Args:
        set_bias_to_zero: whether to leave the bias out.
        epsilon: stabiliser.
    """

    def __init__(self, set_bias_to_zero: bool = False, *, epsilon: float = 1e-9) -> None:
        super().__init__(1.0, 0.0, set_bias_to_zero, epsilon=epsilon)


class ZBoxRule(PropagationRule):
    """z^B for the first layer, inputs in a box: R_i = Σ_j (x_i w_ij − l_i w_ij⁺ − h_i w_ij⁻) R_j / z_j.

    Args:
        low: lowest value of an input, a number or a tensor that broadcasts to the input; None (default) for the lowest
            value of each example.
        high: highest value of an input; None (default) for the highest value of each example.
        epsilon: stabiliser.
    """

    def __init__(
        self, low: float | Tensor | None = None, high: float | Tensor | None = None, *, epsilon: float = 1e-9
    ) -> None:
        self.low = low
        self.high = high
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The operator less what the corners of the box contribute."""
        own = tuple(range(1, x.dim()))
        low = x.amin(own, keepdim=True) if self.low is None else self.low
        high = x.amax(own, keepdim=True) if self.high is None else self.high
        low, high = (torch.as_tensor(v, dtype=x.dtype, device=x.device).expand_as(x) for v in (low, high))
        if affine.weight is None:
            return [Group([Term(x, None, None), Term(low, None, None, -1.0)])]
        return [
            Group(
                [
                    Term(x, affine.weight, affine.bias),
                    Term(low, _positive(affine.weight), _positive(affine.bias), -1.0),
                    Term(high, _negative(affine.weight), _negative(affine.bias), -1.0),
                ]
            )
        ]


class WSquareRule(PropagationRule):
    """w²: R_i = Σ_j w_ij² / Σ_i w_ij² R_j.

    Args:
        epsilon: stabiliser.
    """

    def __init__(self, *, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """Ones, seen through the squared weights."""
        return [Group([Term(torch.ones_like(x), None if affine.weight is None else affine.weight**2, None)])]


class FlatRule(PropagationRule):
    """flat: every input that reaches an output gets the same share.

    Args:
        epsilon: stabiliser.
    """

    def __init__(self, *, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """Ones, seen through weights of one."""
        return [
            Group([Term(torch.ones_like(x), None if affine.weight is None else torch.ones_like(affine.weight), None)])
        ]


class NormRule(PropagationRule):
    """norm: inputs share in proportion to their values, as if all weights were one.

    Args:
        epsilon: stabiliser.
    """

    def __init__(self, *, epsilon: float = 1e-9) -> None:
        self.epsilon = epsilon

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:
        """The values, seen through weights of one."""
        return [Group([Term(x, None if affine.weight is None else torch.ones_like(affine.weight), None)])]


class PassRule(PropagationRule):
    """pass: relevance in = relevance out, for operators whose input and output have one shape."""

    def groups(self, x: Tensor, affine: Affine) -> list[Group]:  # noqa: ARG002  # nothing is shared
        """None: relevance is passed on as a whole, by :meth:`propagate`."""
        return []

    def propagate(self, x: Tensor, affine: Affine, relevance: Tensor) -> Tensor:  # noqa: ARG002  # the shape says enough
        """The relevance itself."""
        if relevance.shape != x.shape:
            message = (
                f"{type(self).__name__} passes relevance on unchanged, but the operator maps {tuple(x.shape)} to "
                f"{tuple(relevance.shape)}; use another rule there, such as EpsilonRule()."
            )
            raise InputError(message)
        return relevance


class IdentityRule(EpsilonRule, PassRule):
    """Relevance in = relevance out; the name that published code uses for :class:`PassRule`.

    Args:
        epsilon: accepted for compatibility.
    """

    propagate = PassRule.propagate


def propagated(rule: PropagationRule, x: Tensor, affine: Affine, relevance: Tensor) -> Tensor:
    """What a rule gives the input, worked out in single precision where tensors have half."""
    if not is_half(x):
        return rule.propagate(x, affine, relevance)
    weight, bias = (None if t is None else widened(t) for t in (affine.weight, affine.bias))
    wide = Affine(affine.apply, weight, bias)
    return rule.propagate(widened(x), wide, widened(relevance)).to(x.dtype)


def _positive(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clamp(min=0)


def _negative(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.clamp(max=0)
