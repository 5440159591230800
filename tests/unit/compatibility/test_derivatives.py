"""Gradients at inputs, layers and neurons against torch.autograd; progress bars."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn

from captum.compatibility import derivatives, progress
from captum.errors import InputError, LayerError, OutputError, TargetError


@pytest.fixture
def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2))


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(4, 2, generator=torch.Generator().manual_seed(1))


def test_gradient_requirements_there_and_back() -> None:
    free, needs, ids = torch.ones(2), torch.ones(2, requires_grad=True), torch.ones(2, dtype=torch.long)
    before = derivatives.apply_gradient_requirements((free, needs, ids))
    assert before == [False, True, False]
    assert free.requires_grad
    derivatives.undo_gradient_requirements((free, needs, ids), before)
    assert [t.requires_grad for t in (free, needs, ids)] == before
    with pytest.raises(InputError, match="one flag per input"):
        derivatives.undo_gradient_requirements((free, needs), [False])


def test_gradients_by_inputs(net: nn.Sequential, x: torch.Tensor) -> None:
    variable = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(net(variable)[:, 1].sum(), variable)
    for given in (x, (x,), variable):
        (gradient,) = derivatives.compute_gradients(net, given, 1)
        torch.testing.assert_close(gradient, expected)
    with torch.no_grad():
        torch.testing.assert_close(derivatives.compute_gradients(net, x, 1)[0], expected)
    with pytest.raises(TargetError, match="target is needed"):
        derivatives.compute_gradients(net, x)
    with pytest.raises(OutputError):
        derivatives.compute_gradients(lambda v: v.detach()[:, 0], x)
    assert not x.requires_grad


@pytest.mark.parametrize("to_input", [True, False])
def test_gradients_at_a_layer(net: nn.Sequential, x: torch.Tensor, to_input: bool) -> None:
    hidden = net[0](x) if to_input else net[:2](x)
    value = hidden.detach().requires_grad_()
    (expected,) = torch.autograd.grad((net[1:] if to_input else net[2:])(value)[:, 0].sum(), value)
    grads, values = derivatives.compute_layer_gradients_and_eval(net, net[1], x, 0, attribute_to_layer_input=to_input)
    torch.testing.assert_close(values[0], value)
    torch.testing.assert_close(grads[0], expected)


def test_gradients_at_several_layers(net: nn.Sequential, x: torch.Tensor) -> None:
    grads, values = derivatives.compute_layer_gradients_and_eval(
        net, [net[0], net[1]], x, 0, output_fn=lambda v: tuple(2 * t for t in v)
    )
    for number, layer in enumerate((net[0], net[1])):
        alone = derivatives.compute_layer_gradients_and_eval(net, layer, x, 0)
        torch.testing.assert_close(grads[number][0], 2 * alone[0][0])
        torch.testing.assert_close(values[number][0], 2 * alone[1][0])


def test_gradients_with_a_neuron(net: nn.Sequential, x: torch.Tensor) -> None:
    answer = derivatives.compute_layer_gradients_and_eval(net, net[0], x, 0, gradient_neuron_selector=1)
    torch.testing.assert_close(answer[2][0], net[0].weight[1].expand(4, 2))
    torch.testing.assert_close(answer[0][0], derivatives.compute_layer_gradients_and_eval(net, net[0], x, 0)[0][0])
    with pytest.raises(LayerError, match="one layer"):
        derivatives.compute_layer_gradients_and_eval(net, [net[0]], x, 0, gradient_neuron_selector=1)


def test_gradient_functions_of_neurons(net: nn.Sequential, x: torch.Tensor) -> None:
    for selector in (1, lambda value: value[:, 1]):
        gradients = derivatives.construct_neuron_grad_fn(net[0], selector)
        for given in (x, (x,)):
            torch.testing.assert_close(gradients(net, given)[0], net[0].weight[1].expand(4, 2))
    at_input = derivatives.construct_neuron_grad_fn(net[0], 1, attribute_to_neuron_input=True)
    torch.testing.assert_close(at_input(net, x, 0)[0], torch.tensor([[0.0, 1.0]]).expand(4, 2))
    from captum.attr import Saliency

    method = Saliency(net)
    method.gradient_func = derivatives.construct_neuron_grad_fn(net[0], 1)
    torch.testing.assert_close(method.attribute(x, abs=False), net[0].weight[1].expand(4, 2))


def test_progress_goes_through() -> None:
    stream = io.StringIO()
    assert list(progress.progress([1, 2, 3], desc="walk", file=stream)) == [1, 2, 3]
    assert "walk" in stream.getvalue()
    assert "3/3" in stream.getvalue()
    with progress.progress(total=3, file=stream) as bar:
        bar.update(2)
        assert bar.n == 2
        assert isinstance(bar, progress.BaseProgress)


def test_null_progress() -> None:
    with progress.NullProgress([1, 2], "ignored", total=5) as bar:
        assert list(bar) == [1, 2]
        bar.update(3)
    bar.close()
    assert list(progress.NullProgress()) == []
    assert isinstance(bar, progress.Progress)


def test_streams_that_are_gone() -> None:
    stream = io.StringIO()
    wrapper = progress.DisableErrorIOWrapper(stream)
    assert wrapper.write("a") == 1
    assert not wrapper.isatty()
    stream.close()
    assert wrapper.write("b") is None
    assert wrapper.flush() is None
