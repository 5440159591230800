"""Influence of training examples: which of them made the model say what it says?

:class:`TracInCP` and its faster kin follow the checkpoints of a training run; :class:`NaiveInfluenceFunction` asks
what would be had an example been left out; :class:`SimilarityInfluence` compares activations.
"""

from __future__ import annotations

from captum.influence.data_influence import DataInfluence
from captum.influence.influence_function import NaiveInfluenceFunction
from captum.influence.similarity import SimilarityInfluence
from captum.influence.tracin import TracInCP, TracInCPBase
from captum.influence.tracin_fast import TracInCPFast
from captum.influence.tracin_projected import TracInCPFastRandProj

__all__ = [
    "DataInfluence",
    "NaiveInfluenceFunction",
    "SimilarityInfluence",
    "TracInCP",
    "TracInCPBase",
    "TracInCPFast",
    "TracInCPFastRandProj",
]
