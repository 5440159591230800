"""Concepts: which ideas, named by examples, a model's score rests on.

:class:`TCAV` trains a classifier that tells a :class:`Concept` from others by the activations of a layer, and asks how
often the score grows towards it; :func:`significance` tests that against random concepts.
"""

from __future__ import annotations

from captum.concept.cav import CAV
from captum.concept.classifier import Classifier, DefaultClassifier
from captum.concept.concept import Concept, ConceptInterpreter
from captum.concept.means import MeanClassifier
from captum.concept.significance import Significance, significance
from captum.concept.tcav import TCAV

__all__ = [
    "CAV",
    "TCAV",
    "Classifier",
    "Concept",
    "ConceptInterpreter",
    "DefaultClassifier",
    "MeanClassifier",
    "Significance",
    "significance",
]
