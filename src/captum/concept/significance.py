"""Whether a concept counts more than random examples do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum.concept.concept import Concept, concepts_to_str
from captum.concept.tcav import TCAV
from captum.errors import InputError

__all__ = ["Significance", "significance"]


@dataclass(frozen=True)
class Significance:
    """What :func:`significance` finds at one layer.

    Attributes:
        sign_count: the concept's mean sign count against the random concepts.
        random_sign_counts: that of each random concept against all others, ``(k,)``.
        p_value: how likely a random concept is to have a sign count at least as far from one half.
    """

    sign_count: float
    random_sign_counts: Tensor
    p_value: float


def significance(
    tcav: TCAV,
    inputs: Any,
    concept: Concept,
    random_concepts: Sequence[Concept],
    target: Any = None,
    additional_forward_args: Any = None,
    processes: int | None = None,
    **kwargs: Any,
) -> dict[str, Significance]:
    r"""Test the sign count of a concept against those of random concepts.

    A classifier separates any two sets of examples somehow, so that a sign count far from one half means little by
    itself. Each of the concept and :math:`k` random concepts is set against each other one, which takes
    :math:`k (k + 1) / 2` classifiers; :math:`S` is the mean sign count of one against the others, and

    .. math:: p = \frac{1 + \#\{j : |S_j - 1/2| \ge |S - 1/2|\}}{k + 1}.

    Were the concept a random one, all :math:`k + 1` of them could change places, so that the test holds its level
    whatever the model is. No p value is below :math:`1 / (k + 1)`: nineteen random concepts are needed for 0.05. (A
    t-test over random concepts, as in the paper, takes scores for independent that share the concept's examples.)
    Divide the level by the number of layers and concepts that are tried.

    B. Kim, M. Wattenberg, J. Gilmer, C. Cai, J. Wexler, F. Viegas, R. Sayres, "Interpretability beyond feature
    attribution: quantitative testing with concept activation vectors (TCAV)", 2018, arXiv:1711.11279, section 3.5.

    Args:
        tcav: the model, its layers, and the classifier.
        inputs: tensor ``(N, *)``, tuple, dict or dataclass: examples of the class that is explained.
        concept: the concept in question.
        random_concepts: at least two concepts, each with its own id and as many examples as the concept, drawn at
            random.
        target: which output is explained; see ``docs/conventions.md``.
        additional_forward_args: constants of the model.
        processes: number of processes that train.
        kwargs: further arguments of the layer attribution.

    Returns:
        :class:`Significance` by the name of the layer.

    Raises:
        InputError: when there are fewer than two random concepts, or two concepts have one id.

    Example:
        >>> model = torch.nn.Sequential(torch.nn.Identity(), torch.nn.Linear(2, 1))
        >>> along = Concept(0, "along", [torch.randn(40, 2) + 9 * model[1].weight.detach()])
        >>> noise = [Concept(i, "noise", [torch.randn(40, 2)]) for i in range(1, 4)]
        >>> significance(TCAV(model, "0", save_path=None, seed=0), torch.randn(9, 2), along, noise, 0)["0"].sign_count
        1.0
    """
    if len(random_concepts) < 2:
        message = f"Expected at least two random_concepts, got {len(random_concepts)}; p is at least 1 / (k + 1)."
        raise InputError(message)
    everyone = [concept, *random_concepts]
    pairs = list(itertools.combinations(range(len(everyone)), 2))
    sets = [[everyone[i], everyone[j]] for i, j in pairs]
    scores = tcav.interpret(inputs, sets, target, additional_forward_args, processes, **kwargs)
    found: dict[str, Significance] = {}
    for layer in tcav.layers:
        counts = torch.zeros(len(everyone), dtype=torch.float64, device="cpu")
        for pair, concepts in zip(pairs, sets, strict=True):
            counts[list(pair)] += scores[concepts_to_str(concepts)][layer]["sign_count"].double().cpu()
        found[layer] = _rank(counts / (len(everyone) - 1))
    return found


def _rank(counts: Tensor) -> Significance:
    """Where the first of the mean sign counts ``(k + 1,)`` stands among all."""
    far = (counts - 0.5).abs()
    return Significance(float(counts[0]), counts[1:], float((far >= far[0] - 1e-9).double().mean()))
