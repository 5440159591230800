"""The test against random concepts: its p value by hand, its level under the null, and a planted concept."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum.concept import TCAV, Concept, significance
from captum.errors import InputError
from tests.unit.concept.examples import Means


class Differences(Means):
    """The difference of the means of two classes."""

    def weights(self):
        return self.means - self.means.flip(0)


def bent(size: int) -> nn.Sequential:
    """A layer of which the score is the product of the first element with others, so that signs vary with inputs."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Identity(), nn.Linear(size, 16), nn.Tanh(), nn.Linear(16, 1))


def noise(count: int, size: int) -> list[Concept]:
    return [Concept(i, "random", [torch.randn(12, size)]) for i in range(count)]


def test_ranks_by_hand():
    model, concepts = bent(4), noise(6, 4)
    x = torch.randn(7, 4, requires_grad=True)
    found = significance(TCAV(model, "0", classifier=Differences(), save_path=None), x, concepts[0], concepts[1:], 0)[
        "0"
    ]
    (grads,) = torch.autograd.grad(model(x).sum(), x)
    means = [concept.data_iter[0].mean(0) for concept in concepts]
    counts = []
    for mine in means:
        against = [float((grads @ (mine - other) > 0).float().mean()) for other in means if other is not mine]
        counts.append(sum(against) / 5)
    assert found.sign_count == pytest.approx(counts[0])
    assert found.random_sign_counts.tolist() == pytest.approx(counts[1:])
    extreme = sum(abs(count - 0.5) >= abs(counts[0] - 0.5) - 1e-6 for count in counts)
    assert found.p_value == pytest.approx(extreme / 6)


def test_a_random_concept_is_rarely_called_significant():
    """Each of the concepts takes the place of the one in question: one in five has the smallest p value, or few tie."""
    model, x = bent(6), torch.randn(9, 6)
    torch.manual_seed(5)
    values = []
    for _ in range(4):
        concepts = noise(5, 6)
        tcav = TCAV(model, "0", classifier=Differences(), save_path=None)
        for concept in concepts:
            others = [other for other in concepts if other is not concept]
            values.append(significance(tcav, x, concept, others, 0)["0"].p_value)
    for level in (0.2, 0.4, 0.6, 0.8):
        assert sum(value <= level + 1e-9 for value in values) / len(values) <= level + 1e-9


def test_a_planted_concept_stands_out():
    model = nn.Sequential(nn.Identity(), nn.Linear(8, 1, bias=False))
    torch.manual_seed(0)
    concepts = noise(7, 8)
    with torch.no_grad():
        model[1].weight.copy_(torch.eye(8)[:1])
    planted = Concept(9, "planted", [torch.randn(60, 8) + 3 * torch.eye(8)[0]])
    tcav = TCAV(model, "0", save_path=None, seed=0)
    found = significance(tcav, torch.randn(10, 8), planted, concepts, target=0)["0"]
    assert found.sign_count == 1.0
    # one random concept may be on the other side of all, since gradients of a linear model do not vary
    assert found.p_value <= 2 / 8
    assert len(tcav.cavs) == 28
    assert planted.identifier == "planted-9"


def test_mistakes_are_told():
    one, two, three = noise(3, 2)
    tcav = TCAV(nn.Linear(2, 1), "", save_path=None)
    with pytest.raises(InputError, match="at least two random_concepts, got 1"):
        significance(tcav, torch.randn(2, 2), one, [two], target=0)
    with pytest.raises(InputError, match="id 0"):
        significance(tcav, torch.randn(2, 2), one, [two, three, one], target=0)
