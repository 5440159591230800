"""Composites: which rule of relevance propagation goes where, as tables."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

from torch import Tensor, nn

from captum._engine.operators import OPERATORS
from captum._engine.values import describe
from captum.attr.backprop.relevance_rules import (
    AlphaBetaRule,
    EpsilonRule,
    FlatRule,
    GeneralizedGammaRule,
    PropagationRule,
    ZBoxRule,
    ZPlusRule,
)
from captum.errors import InputError, InputTypeError

Softmax = Literal["identity", "taylor", "stop"]
Product = Literal["gate", "uniform"]


@dataclass(frozen=True, slots=True)
class Site:
    """An affine operator in the forward pass.

    Attributes:
        operator: canonical name, such as ``"conv2d"``.
        module: the module that calls it, or None outside of modules.
        path: that module's path in the model.
        depth: number of affine operators with parameters before it, 0 for the first.
    """

    operator: str
    module: nn.Module | None
    path: str
    depth: int


Where = str | int | type[nn.Module] | Callable[[Site], bool]


@dataclass(frozen=True)
class Composite:
    """A table of rules: the first row that fits an affine operator gives its rule.

    A row is ``(where, rule)``; ``where`` is an operator name (``"conv2d"``, ``"conv*"``), a module path or pattern
    (``"features.0"``, ``"encoder.*"``), a module type, a depth (0 is the first affine operator), or a function of a
    :class:`Site`. A module's own ``.rule`` comes before all rows.

    Attributes:
        rows: the table.
        default: the rule where no row fits.
        softmax: ``"identity"`` passes relevance on, ``"taylor"`` uses R_i = x_i (R_i − y_i Σ R), ``"stop"`` takes the
            result for a constant.
        products: of two varying factors, ``"gate"`` gives all to the factor that is no sigmoid, ``"uniform"`` halves.
        stops: operators whose result is taken for a constant.
        passes: names of module classes that are passed as a whole, as an element-wise operator is: activations that are
            written out in products and sums.
    """

    rows: Sequence[tuple[Where, PropagationRule]] = ()
    default: PropagationRule = field(default_factory=EpsilonRule)
    softmax: Softmax = "identity"
    products: Product = "gate"
    stops: tuple[str, ...] = ()
    passes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the rows."""
        for row in self.rows:
            if len(row) != 2 or not isinstance(row[1], PropagationRule):  # pyright: ignore[reportUnnecessaryIsInstance]  # users write tables
                message = f"Expected rows (where, PropagationRule), got {describe(row)}."
                raise InputTypeError(message)
        for name in self.stops:
            if name not in OPERATORS:
                message = f"Expected in stops names of captum.attr.rules.operators(), got {name!r}."
                raise InputError(message)

    def rule(self, site: Site) -> PropagationRule:
        """The rule at an affine operator."""
        return next((rule for where, rule in self.rows if _fits(where, site)), self.default)

    def extended(self, *rows: tuple[Where, PropagationRule]) -> Composite:
        """This table with more rows before its own."""
        return replace(self, rows=(*rows, *self.rows))


def _fits(where: Where, site: Site) -> bool:
    if isinstance(where, str):
        return fnmatch.fnmatchcase(site.operator, where) or fnmatch.fnmatchcase(site.path, where)
    if isinstance(where, int):
        return site.depth == where
    if isinstance(where, type):
        return isinstance(site.module, where)
    return where(site)


_CONVOLUTIONS = "conv*"
#: Activations that transformers write out in elementary operators.
_ACTIVATIONS = (
    "NewGELUActivation",
    "FastGELUActivation",
    "QuickGELUActivation",
    "PytorchGELUTanh",
    "AccurateGELUActivation",
    "LaplaceActivation",
    "ReLUSquaredActivation",
)


def epsilon(epsilon: float = 1e-9) -> Composite:
    """ε everywhere: what :class:`~captum.attr.LRP` does by default."""
    return Composite(default=EpsilonRule(epsilon))


def epsilon_gamma_box(
    low: float | Tensor | None = None, high: float | Tensor | None = None, *, epsilon: float = 1e-6, gamma: float = 0.25
) -> Composite:
    """z^B at the first layer, γ at convolutions, ε at dense layers.

    γ is that of :class:`GeneralizedGammaRule`, since after linear bottlenecks inputs have both signs.

    Args:
        low: lowest value that an input can have, a number or a tensor that broadcasts to it, such as that of black
            pixels ``(1, C, 1, 1)``; None (default) for the lowest value of each example.
        high: highest value that an input can have; None (default) for the highest value of each example.
        epsilon: ε of dense layers.
        gamma: γ of convolutions.
    """
    return Composite(((0, ZBoxRule(low, high)), (_CONVOLUTIONS, GeneralizedGammaRule(gamma))), EpsilonRule(epsilon))


def epsilon_plus(*, epsilon: float = 1e-6) -> Composite:
    """z⁺ at convolutions, ε at dense layers."""
    return Composite(((_CONVOLUTIONS, ZPlusRule()),), EpsilonRule(epsilon))


def epsilon_plus_flat(*, epsilon: float = 1e-6) -> Composite:
    """Flat at the first layer, z⁺ at convolutions, ε at dense layers."""
    return epsilon_plus(epsilon=epsilon).extended((0, FlatRule()))


def alpha2_beta1_flat(*, epsilon: float = 1e-6) -> Composite:
    """Flat at the first layer, α2β1 at convolutions, ε at dense layers."""
    return Composite(((0, FlatRule()), (_CONVOLUTIONS, AlphaBetaRule(2, 1))), EpsilonRule(epsilon))


def attn_lrp(*, epsilon: float = 1e-6, rows: Sequence[tuple[Where, PropagationRule]] = ()) -> Composite:
    """AttnLRP for transformers: softmax by its Taylor expansion, products halved, norms passed, ε elsewhere.

    R. Achtibat et al., "AttnLRP: attention-aware layer-wise relevance propagation for transformers", 2024,
    arXiv:2402.05602.

    Args:
        epsilon: ε of affine operators and products.
        rows: rows before the default, such as ``(("linear", GammaRule(0.1)),)`` for vision transformers.
    """
    return Composite(rows, EpsilonRule(epsilon), softmax="taylor", products="uniform", passes=_ACTIVATIONS)


def cp_lrp(*, epsilon: float = 1e-6, rows: Sequence[tuple[Where, PropagationRule]] = ()) -> Composite:
    """CP-LRP for transformers: attention weights are constants, relevance flows through the values alone.

    A. Ali et al., "XAI for transformers: better explanations through conservative propagation", 2022, arXiv:2202.07304.

    Args:
        epsilon: ε of affine operators and products.
        rows: rows before the default.
    """
    return Composite(rows, EpsilonRule(epsilon), softmax="stop", products="gate", passes=_ACTIVATIONS)


#: Composites by name.
NAMED: Mapping[str, Callable[[], Composite]] = MappingProxyType(
    {
        "epsilon": epsilon,
        "epsilon_gamma_box": epsilon_gamma_box,
        "epsilon_plus": epsilon_plus,
        "epsilon_plus_flat": epsilon_plus_flat,
        "alpha2_beta1_flat": alpha2_beta1_flat,
        "attn_lrp": attn_lrp,
        "cp_lrp": cp_lrp,
    }
)


def read_composite(value: Composite | str | None) -> Composite:
    """A composite from itself, its name, or None for ε."""
    if value is None:
        return epsilon()
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]()
    if isinstance(value, Composite):
        return value
    shown = repr(value) if isinstance(value, str) else describe(value)  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass anything
    message = f"Expected composite as a Composite or one of {list(NAMED)}, got {shown}."
    raise InputError(message)
