"""``create_graph=True``: the values are functions of the inputs and of the weights that autograd can differentiate."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.cases import Case, keeping
from tests.laws.test_axioms import of
from tests.models import Mlp, seeded


def smooth() -> Mlp:
    """A body of its own, in double precision, with non-zero second derivatives everywhere."""
    return seeded(lambda: Mlp(4, 3, 2, nn.Tanh), seed=3).double()


@pytest.mark.parametrize("case", keeping("double"))
def test_values_are_differentiable_in_the_inputs(case: Case) -> None:
    whole = of(case, smooth())
    x = whole.inputs.clone().requires_grad_(True)

    def values(point: Tensor) -> Tensor:
        return case.run(whole.but(inputs=point), create_graph=True, **case.quick())

    assert values(x).requires_grad
    assert torch.autograd.gradcheck(values, (x,), atol=1e-6)


@pytest.mark.parametrize("case", keeping("double"))
def test_values_are_differentiable_in_the_weights(case: Case) -> None:
    """A penalty on attributions trains the model: its gradient is the difference quotient."""
    body = smooth()
    weight = body.hidden1.weight
    whole = of(case, body)

    def penalty(*, graph: bool) -> Tensor:
        return case.run(whole, create_graph=graph, **case.quick()).square().sum().log()

    (gradient,) = torch.autograd.grad(penalty(graph=True), weight)
    step = 1e-5
    with torch.no_grad():
        weight[0, 1] += step
        above = penalty(graph=False)
        weight[0, 1] -= 2 * step
        below = penalty(graph=False)
        weight[0, 1] += step
    torch.testing.assert_close(gradient[0, 1], (above - below) / (2 * step), rtol=1e-4, atol=1e-7)
    assert gradient[0, 1].abs() > 1e-4


@pytest.mark.parametrize("case", keeping("double"))
def test_without_create_graph_values_are_detached(case: Case) -> None:
    whole = of(case, smooth())
    assert not case.run(whole).requires_grad
    torch.testing.assert_close(case.run(whole, create_graph=True).detach(), case.run(whole))
