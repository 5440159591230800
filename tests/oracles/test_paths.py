"""Integrated gradients at every place, influence and conductance, re-derived example by example and node by node."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum import attr
from tests.oracles.loops import METHODS, chain, gradient, nodes_and_weights, path_gradient, rows
from tests.subjects import drawn

X = drawn(3, 3, seed=4, dtype=torch.float64)
X0 = drawn(3, 3, seed=5, dtype=torch.float64)
NET = chain()
TARGET = 1


def score(x: Tensor) -> Tensor:
    """The explained output."""
    return NET(x)[:, TARGET]


def tail(y: Tensor) -> Tensor:
    """The explained output as a function of the layer."""
    return NET.head(y)[:, TARGET]


def unit(j: int) -> object:
    """One unit of the layer as a function of the input."""
    return lambda x: NET.layer(x)[:, j]


def close(got: Tensor, want: Tensor, tolerance: float = 1e-10) -> None:
    """Equal in double precision."""
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 3, 7])
def test_weights_sum_to_one(method: str, n: int) -> None:
    """A constant gradient comes out whole: the weights of every rule sum to 1, those of the trapezoid rule too."""
    assert sum(weight for _, weight in nodes_and_weights(method, n)) == pytest.approx(1)
    weight = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    found = attr.IntegratedGradients(lambda x: x @ weight.t()).attribute(X, X0, n_steps=n, method=method)
    close(found, (X - X0) * weight)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 5, 50])
def test_integrated_gradients(method: str, n: int) -> None:
    found = attr.IntegratedGradients(NET).attribute(X, X0, TARGET, n_steps=n, method=method)
    mean = rows(lambda x, x0: path_gradient(score, x, x0, method, n), X, X0)
    close(found, (X - X0) * mean)
    plain = attr.IntegratedGradients(NET, multiply_by_inputs=False)
    close(plain.attribute(X, X0, TARGET, n_steps=n, method=method), mean)


@pytest.mark.parametrize("method", METHODS)
def test_the_delta_is_the_sum_less_the_change(method: str) -> None:
    found, delta = attr.IntegratedGradients(NET).attribute(
        X, X0, TARGET, n_steps=3, method=method, return_convergence_delta=True
    )
    with torch.no_grad():
        close(delta, found.sum(1) - (score(X) - score(X0)))
    assert delta.abs().max() > 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_layer_integrated_gradients(method: str) -> None:
    """The straight path runs between the two values of the layer."""
    found, delta = attr.LayerIntegratedGradients(NET, NET.layer).attribute(
        X, X0, TARGET, n_steps=6, method=method, return_convergence_delta=True
    )
    with torch.no_grad():
        y, y0 = NET.layer(X), NET.layer(X0)
        change = score(X) - score(X0)
    want = (y - y0) * rows(lambda a, b: path_gradient(tail, a, b, method, 6), y, y0)
    close(found, want)
    close(delta, want.sum(1) - change)


@pytest.mark.parametrize("method", METHODS)
def test_internal_influence(method: str) -> None:
    """The mean gradient at the layer while the *input* goes straight."""
    found = attr.InternalInfluence(NET, NET.layer).attribute(X, X0, TARGET, n_steps=6, method=method)

    def influence(x: Tensor, x0: Tensor) -> Tensor:
        total = torch.zeros(4, dtype=torch.float64)
        for alpha, weight in nodes_and_weights(method, 6):
            total += weight * gradient(tail, NET.layer(x0 + alpha * (x - x0)).detach())
        return total

    close(found, rows(influence, X, X0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("j", [0, 3])
def test_neuron_integrated_gradients(method: str, j: int) -> None:
    found = attr.NeuronIntegratedGradients(NET, NET.layer).attribute(X, j, X0, n_steps=6, method=method)
    close(found, (X - X0) * rows(lambda x, x0: path_gradient(unit(j), x, x0, method, 6), X, X0))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("j", [0, 3])
def test_neuron_conductance(method: str, j: int) -> None:
    """``sum_k w_k dF/dy_j dy_j/dx (x - x0)`` with the chain rule by hand."""
    found = attr.NeuronConductance(NET, NET.layer).attribute(X, j, X0, TARGET, n_steps=6, method=method)

    def conductance(x: Tensor, x0: Tensor) -> Tensor:
        total = torch.zeros(3, dtype=torch.float64)
        for alpha, weight in nodes_and_weights(method, 6):
            point = x0 + alpha * (x - x0)
            total += weight * gradient(tail, NET.layer(point).detach())[j] * gradient(unit(j), point)
        return total * (x - x0)

    close(found, rows(conductance, X, X0))


def test_neuron_conductance_defaults_to_the_trapezoid_rule() -> None:
    method = attr.NeuronConductance(NET, NET.layer)
    close(
        method.attribute(X, 1, X0, TARGET, n_steps=5),
        method.attribute(X, 1, X0, TARGET, n_steps=5, method="riemann_trapezoid"),
    )


@pytest.mark.parametrize("method", METHODS)
def test_conductances_of_all_neurons_are_integrated_gradients(method: str) -> None:
    """The layer cuts the graph, so what flows through its units is all that flows (contract 21.8)."""
    neuron = attr.NeuronConductance(NET, NET.layer)
    total = sum(neuron.attribute(X, j, X0, TARGET, n_steps=9, method=method) for j in range(4))
    close(total, attr.IntegratedGradients(NET).attribute(X, X0, TARGET, n_steps=9, method=method))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n", [2, 4, 50])
def test_layer_conductance_telescopes(method: str, n: int) -> None:
    """With a linear rest the gradient is constant, so only increments count: they add up to y(x) - y(x0) exactly."""
    net = chain()
    net.head = torch.nn.Linear(4, 2).double()
    found, delta = attr.LayerConductance(net, net.layer).attribute(
        X, X0, TARGET, n_steps=n, method=method, return_convergence_delta=True
    )
    with torch.no_grad():
        want = net.head.weight[TARGET] * (net.layer(X) - net.layer(X0))
    close(found, want)
    close(delta, torch.zeros(3, dtype=torch.float64))


def test_layer_conductance_node_by_node() -> None:
    """Increments of the layer between nodes, times the mean of both gradients; the ends belong to the outer nodes.

    ``riemann_left`` and ``riemann_right`` take the gradient of the node of that side.
    """
    for method in METHODS:
        sides = {"riemann_left": (1.0, 0.0), "riemann_right": (0.0, 1.0)}
        left, right = sides.get(method, (0.5, 0.5))

        def conductance(
            x: Tensor, x0: Tensor, method: str = method, left: float = left, right: float = right
        ) -> Tensor:
            points = [x0 + alpha * (x - x0) for alpha, _ in nodes_and_weights(method, 5)]
            values = [NET.layer(point).detach() for point in points]
            slopes = [gradient(tail, value) for value in values]
            total = slopes[0] * (values[0] - NET.layer(x0).detach()) + slopes[-1] * (NET.layer(x).detach() - values[-1])
            for k in range(4):
                total += (left * slopes[k] + right * slopes[k + 1]) * (values[k + 1] - values[k])
            return total

        found = attr.LayerConductance(NET, NET.layer).attribute(X, X0, TARGET, n_steps=5, method=method)
        close(found, rows(conductance, X, X0))
        plain = attr.LayerConductance(NET, NET.layer).attribute(
            X, X0, TARGET, n_steps=5, method=method, internal_batch_size=2
        )
        close(plain, found)


@pytest.mark.parametrize("method", METHODS)
def test_layer_conductance_converges_to_the_path_integral(method: str) -> None:
    """``int dF/dy_j(x(a)) dy_j/da da``, integrated here by 64-point Gauss-Legendre with dy/da by autograd."""

    def conductance(x: Tensor, x0: Tensor) -> Tensor:
        total = torch.zeros(4, dtype=torch.float64)
        for alpha, weight in nodes_and_weights("gausslegendre", 64):
            point = x0 + alpha * (x - x0)
            speed = torch.func.jvp(lambda p: NET.layer(p[None])[0], (point,), (x - x0,))[1].detach()
            total += weight * gradient(tail, NET.layer(point).detach()) * speed
        return total

    want = rows(conductance, X, X0)
    method_object = attr.LayerConductance(NET, NET.layer)
    errors = [
        float((method_object.attribute(X, X0, TARGET, n_steps=n, method=method) - want).abs().max()) for n in (50, 400)
    ]
    assert errors[1] < 2e-3 * float(want.abs().max())
    assert errors[1] < errors[0] / 4
    with torch.no_grad():
        close(want.sum(1), score(X) - score(X0), 1e-8)


def test_layer_paths_at_the_layers_input() -> None:
    """``attribute_to_layer_input`` of a layer is the output of the one before (contract 21.6)."""
    before, layer = NET.layer[0], NET.layer[1]
    for kind in ("LayerIntegratedGradients", "LayerConductance", "InternalInfluence"):
        method = getattr(attr, kind)
        at_input = method(NET, layer).attribute(X, X0, TARGET, n_steps=5, attribute_to_layer_input=True)
        close(at_input, method(NET, before).attribute(X, X0, TARGET, n_steps=5))
    for kind in ("NeuronIntegratedGradients", "NeuronConductance"):
        method = getattr(attr, kind)
        more = {"target": TARGET} if kind == "NeuronConductance" else {}
        at_input = method(NET, layer).attribute(X, 2, X0, n_steps=5, attribute_to_neuron_input=True, **more)
        close(at_input, method(NET, before).attribute(X, 2, X0, n_steps=5, **more))


def test_several_layers_at_once() -> None:
    """Two parallel layers cut the graph together: their shares add up to the change, in a list."""
    net = _Parallel()
    method = attr.LayerIntegratedGradients(net, [net.left, net.right])
    found, delta = method.attribute(X, X0, n_steps=60, return_convergence_delta=True)
    assert isinstance(found, list)
    with torch.no_grad():
        change = (net(X) - net(X0)).reshape(-1)
    close(found[0].sum(1) + found[1].sum(1) - change, delta, 1e-8)
    assert delta.abs().max() < 1e-8
    single = attr.LayerIntegratedGradients(net, [net.left]).attribute(X, X0, n_steps=5)
    assert isinstance(single, list)
    assert len(single) == 1
    close(single[0], attr.LayerIntegratedGradients(net, net.left).attribute(X, X0, n_steps=5))


class _Parallel(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = chain(1).layer
        self.right = chain(2).layer

    def forward(self, x: Tensor) -> Tensor:
        return (self.left(x) * self.right(x)).sum(1)
