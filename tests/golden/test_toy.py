"""Published numbers, and closed forms where the published ones are wrong."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from captum import attr
from tests.golden.closed_forms import layer_conductance, neuron_conductance, trapezoid_share
from tests.golden.toy import MODEL, SINGLE_CALLS, ZEROS, Golden, X, seed_all


def close(got: Tensor, want: object) -> None:
    """Within the rounding of the published digits."""
    torch.testing.assert_close(got.detach(), torch.as_tensor(want, dtype=torch.float32), rtol=0, atol=1e-4)


@pytest.mark.parametrize("golden", [pytest.param(row, id=row.name) for row in SINGLE_CALLS])
def test_single_calls(golden: Golden) -> None:
    seed_all()
    close(golden.call(), golden.value)


def test_the_readme_sequence() -> None:
    """One stream through the whole guide: each call starts where the last one left the generators."""
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the stream the methods read
    x = torch.rand(2, 3)
    close(x, [[0.29611, 0.51656, 0.25167], [0.68856, 0.07397, 0.86652]])

    method = attr.IntegratedGradients(MODEL)
    values, delta = method.attribute(x, ZEROS, target=0, return_convergence_delta=True)
    close(values, [[-0.59222, -1.54969, -1.00668], [0, -0.22192, -5.19913]])
    assert delta.abs().max() < 1e-5

    cloud = torch.randn(10, 3) * 0.001
    values, delta = attr.GradientShap(MODEL).attribute(
        x, cloud, stdevs=0.09, n_samples=4, target=0, return_convergence_delta=True
    )
    close(values, [[-0.15418, -1.62286, -1.58346], [-0.39158, -0.28365, -4.68514]])
    close(delta, [0, -0.00051, -0.00289, -0.00843, -0.00866, -0.04047, 0, -0.00843])

    values, delta = attr.NoiseTunnel(method).attribute(
        x, nt_type="smoothgrad", stdevs=0.02, nt_samples=4, baselines=ZEROS, target=0, return_convergence_delta=True
    )
    close(values, [[-0.45743, -1.54932, -1.08925], [0, -0.26473, -5.16188]])
    assert delta.shape == (8,)

    close(attr.NeuronConductance(MODEL, MODEL.lin1).attribute(x, 1, ZEROS, 0), neuron_conductance() * trapezoid_share())
    values, delta = attr.LayerConductance(MODEL, MODEL.lin1).attribute(x, ZEROS, 0, return_convergence_delta=True)
    close(values, layer_conductance())
    close(delta, [0, 0])


def test_closed_forms_are_the_golden_numbers() -> None:
    """The table's digits for the corrected methods are those of the closed forms."""
    table = {row.name: row.value for row in SINGLE_CALLS}
    close(layer_conductance(), table["LayerConductance"])
    close(neuron_conductance(), table["NeuronConductance"])
    close(neuron_conductance() * trapezoid_share(), table["NeuronConductance trapezoid"])


def test_published_conductance_carries_the_lost_weight() -> None:
    """The published trapezoid number is ours times 49/50: the weights of the rule summed to (n - 1) / n."""
    close(neuron_conductance()[1] * trapezoid_share() * 49 / 50, [1.33580, 0, -1.68105])


@pytest.mark.parametrize(
    "method", ["gausslegendre", "riemann_left", "riemann_right", "riemann_middle", "riemann_trapezoid"]
)
@pytest.mark.parametrize("n", [2, 5, 50])
def test_integrated_gradients_of_a_linear_score(method: str, n: int) -> None:
    """Contract 21.1: (x - x0) * w, for every rule and every n."""
    weight = torch.tensor([1.5, -2.0, 0.25])
    start = torch.tensor([[0.1, 0.2, -0.3]])
    found = attr.IntegratedGradients(lambda x: x @ weight).attribute(X, start, n_steps=n, method=method)
    torch.testing.assert_close(found, (X - start) * weight)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_integrated_gradients_of_squares(n: int) -> None:
    """Contract 21.1: x^2 - x0^2, exact for Gauss-Legendre from one node on."""
    start = torch.full((1, 3), 0.5)
    found = attr.IntegratedGradients(lambda x: x.square().sum(1)).attribute(X, start, n_steps=n)
    torch.testing.assert_close(found, X**2 - start**2)


def test_integrated_gradients_of_a_product() -> None:
    """F = x y from (0, 0): each factor gets half of the product, whatever the point."""
    found = attr.IntegratedGradients(lambda x: x[:, 0] * x[:, 1]).attribute(X, n_steps=2)
    half = X[:, 0] * X[:, 1] / 2
    torch.testing.assert_close(found, torch.stack([half, half, torch.zeros(2)], 1))


def test_integrated_gradients_of_the_papers_network() -> None:
    """Sundararajan et al. 2017, figure 1: relu(relu(x1 - 1) - relu(x2)) at (3, 1) from 0 is 1 = 3/2 - 1/2."""

    def network(x: Tensor) -> Tensor:
        return torch.relu(torch.relu(x[:, 0] - 1) - torch.relu(x[:, 1]))

    def twin(x: Tensor) -> Tensor:
        return torch.relu(torch.relu(x[:, 0] - 1 - torch.relu(x[:, 1])))

    point = torch.tensor([[3.0, 1.0]])
    for function in (network, twin):
        found = attr.IntegratedGradients(function).attribute(point, n_steps=2000, method="riemann_middle")
        torch.testing.assert_close(found, torch.tensor([[1.5, -0.5]]), rtol=0, atol=2e-3)


def test_conductance_of_the_papers_failure_of_saturation() -> None:
    """A unit that saturates passes everything it gained before: 1 - relu(1 - x) at x = 2 has gradient 0, share 1."""
    first = torch.nn.Identity()

    class Saturating(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = first

        def forward(self, x: Tensor) -> Tensor:
            return (1 - torch.relu(1 - self.first(x))).sum(1)

    found = attr.LayerConductance(Saturating(), first).attribute(torch.tensor([[2.0]]), n_steps=500)
    torch.testing.assert_close(found, torch.tensor([[1.0]]), rtol=0, atol=5e-3)
