"""Which rule of relevance propagation goes where: composites, as tables, and the rules that they are made of.

Example:
    >>> from captum.attr.composites import EpsilonRule, GammaRule, epsilon_plus
    >>> table = epsilon_plus().extended(("features.*", GammaRule(0.1)), ("linear", EpsilonRule(1e-4)))
    >>> len(table.rows)
    3
"""

from __future__ import annotations

from captum.attr.backprop.composites import (
    Composite,
    Site,
    alpha2_beta1_flat,
    attn_lrp,
    cp_lrp,
    epsilon,
    epsilon_gamma_box,
    epsilon_plus,
    epsilon_plus_flat,
)
from captum.attr.backprop.relevance_rules import (
    Alpha1_Beta0_Rule,
    AlphaBetaRule,
    EpsilonRule,
    FlatRule,
    GammaRule,
    GeneralizedGammaRule,
    Group,
    IdentityRule,
    NormRule,
    PassRule,
    PropagationRule,
    Term,
    WSquareRule,
    ZBoxRule,
    ZPlusRule,
)

__all__ = [
    "Alpha1_Beta0_Rule",
    "AlphaBetaRule",
    "Composite",
    "EpsilonRule",
    "FlatRule",
    "GammaRule",
    "GeneralizedGammaRule",
    "Group",
    "IdentityRule",
    "NormRule",
    "PassRule",
    "PropagationRule",
    "Site",
    "Term",
    "WSquareRule",
    "ZBoxRule",
    "ZPlusRule",
    "alpha2_beta1_flat",
    "attn_lrp",
    "cp_lrp",
    "epsilon",
    "epsilon_gamma_box",
    "epsilon_plus",
    "epsilon_plus_flat",
]
