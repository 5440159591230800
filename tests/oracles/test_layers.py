"""Where a layer's value is read and replaced: in-place code, reused modules, several tensors, inputs, tokens."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum import attr
from captum.errors import InputError, LayerError
from tests.models import Cnn, model_named, seeded
from tests.subjects import drawn, subject


def close(got: object, want: object) -> None:
    """Equal up to float32 rounding."""
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_a_value_overwritten_in_place_is_the_one_before() -> None:
    """The ReLU after the convolution works in place; the layer's value is what the convolution gave."""
    net = seeded(Cnn)
    x = drawn(2, 3, 8, 8)
    with torch.no_grad():
        first = net.norm(net.conv1(x))
        want = net.conv2(net.pool(first.relu()))
    assert (want < 0).any()
    close(attr.LayerActivation(net, net.conv2).attribute(x), want)
    close(attr.LayerActivation(net, net.norm).attribute(x), first)
    leaf = want.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(net.head(leaf.relu().flatten(1))[:, 1].sum(), leaf)
    close(attr.LayerGradientXActivation(net, net.conv2).attribute(x, 1), slope * want)


class Twice(nn.Module):
    """One layer, run two times."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.tanh(self.layer(torch.tanh(self.layer(x)))))


def test_of_a_layer_run_twice_the_last_run_counts() -> None:
    """Contract 4."""
    net = seeded(Twice)
    x = drawn(2, 3)
    with torch.no_grad():
        want = net.layer(torch.tanh(net.layer(x)))
    close(attr.LayerActivation(net, net.layer).attribute(x), want)
    leaf = want.clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(net.head(torch.tanh(leaf))[:, 1].sum(), leaf)
    close(attr.LayerGradientXActivation(net, net.layer).attribute(x, 1), slope * want)
    values, delta = attr.LayerIntegratedGradients(net, net.layer).attribute(
        x, target=1, n_steps=60, return_convergence_delta=True
    )
    with torch.no_grad():
        change = (net(x) - net(torch.zeros_like(x)))[:, 1]
    close(values.sum(1), change)
    assert delta.abs().max() < 1e-5


class Splits(nn.Module):
    """A layer that takes two tensors and gives a tuple of two."""

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return a * b, a + b


class Forked(nn.Module):
    """Uses both outputs of ``Splits``."""

    def __init__(self) -> None:
        super().__init__()
        self.inlet = nn.Linear(3, 3)
        self.fork = Splits()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        product, total = self.fork(self.inlet(x), x)
        return self.head(torch.tanh(product) + total)


@pytest.mark.parametrize(
    "name", ["LayerActivation", "LayerGradientXActivation", "LayerIntegratedGradients", "LayerConductance",
             "InternalInfluence"],
)  # fmt: skip
def test_several_tensors_come_back_in_a_tuple(name: str) -> None:
    net, x = seeded(Forked), drawn(2, 3)
    method = getattr(attr, name)(net, net.fork)
    more = {} if name == "LayerActivation" else {"target": 1}
    outputs = method.attribute(x, **more)
    inputs = method.attribute(x, attribute_to_layer_input=True, **more)
    assert isinstance(outputs, tuple)
    assert isinstance(inputs, tuple)
    with torch.no_grad():
        sides = {"output": net.fork(net.inlet(x), x), "input": (net.inlet(x), x)}
    if name == "LayerActivation":
        close(outputs, sides["output"])
        close(inputs, sides["input"])
    if name == "LayerGradientXActivation":
        product, total = (each.clone().requires_grad_(True) for each in sides["output"])
        slopes = torch.autograd.grad(net.head(torch.tanh(product) + total)[:, 1].sum(), (product, total))
        close(outputs, (slopes[0] * product, slopes[1] * total))
    if name in ("LayerIntegratedGradients", "LayerConductance"):
        with torch.no_grad():
            change = (net(x) - net(torch.zeros_like(x)))[:, 1]
        # the fork's second input is the model's own, used before the fork as well: only a replaced value cuts there
        for found in (outputs, inputs) if name == "LayerIntegratedGradients" else (outputs,):
            torch.testing.assert_close(found[0].sum(1) + found[1].sum(1), change, rtol=1e-2, atol=1e-3)


def test_a_neuron_among_several_tensors_needs_a_function() -> None:
    net, x = seeded(Forked), drawn(2, 3)
    method = attr.NeuronGradient(net, net.fork)
    with pytest.raises(LayerError, match="function"):
        method.attribute(x, 1)
    leaf = x.clone().requires_grad_(True)
    (want,) = torch.autograd.grad(net.fork(net.inlet(leaf), leaf)[1][:, 2].sum(), leaf)
    close(method.attribute(x, lambda both: both[1][:, 2]), want)


def test_values_of_memory_efficient_layers_are_the_same() -> None:
    whole = subject("cnn")
    plain = attr.LayerGradientXActivation(whole.model, whole.model.conv2)
    lean = attr.LayerGradientXActivation(whole.model, whole.model.conv2, memory_efficient=True)
    close(lean.attribute(whole.inputs, 1), plain.attribute(whole.inputs, 1))


@pytest.mark.parametrize(
    "name", ["LayerGradientXActivation", "LayerGradCam", "LayerConductance", "InternalInfluence",
             "LayerIntegratedGradients"],
)  # fmt: skip
def test_grad_kwargs_may_ask_for_the_graph(name: str) -> None:
    """``grad_kwargs={"create_graph": True}`` is the published way to ask."""
    whole = subject("cnn")
    method = getattr(attr, name)(whole.model, whole.model.conv2)
    values = method.attribute(whole.inputs, target=1, grad_kwargs={"create_graph": True})
    assert values.requires_grad
    close(values.detach(), method.attribute(whole.inputs, target=1))
    assert not method.attribute(whole.inputs, target=1, grad_kwargs={"allow_unused": True}).requires_grad


def test_an_unknown_grad_kwarg_is_told() -> None:
    whole = subject("cnn")
    with pytest.raises((InputError, TypeError), match="retain"):
        attr.LayerGradCam(whole.model, whole.model.conv2).attribute(whole.inputs, 1, grad_kwargs={"retainer": True})


def test_what_nothing_reads_at_a_layer_gets_zeros() -> None:
    """A layer that runs, but whose value is dropped."""

    class Dropped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.dead = nn.Linear(3, 3)
            self.live = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            self.dead(x)
            return self.live(x)

    net = seeded(Dropped)
    values = attr.LayerGradientXActivation(net, net.dead).attribute(drawn(2, 3), 1)
    assert torch.equal(values, torch.zeros(2, 3))


def _tokens() -> tuple[nn.Module, Tensor, nn.Module, Tensor, Tensor]:
    """A vision transformer, an image, a layer of tokens, and value and gradient there by hooks of its own."""
    whole = subject("vit")
    layer = whole.model.get_submodule("vit.layers.1.layernorm_before")
    kept: list[Tensor] = []
    handle = layer.register_forward_hook(lambda _, inputs, output: kept.append(output))
    out = whole.model(whole.inputs).logits[:, 2].sum()
    handle.remove()
    (slope,) = torch.autograd.grad(out, kept[0])
    return whole.model, whole.inputs, layer, kept[0].detach(), slope


def test_grad_cam_over_the_patches_of_a_vision_transformer() -> None:
    """16 x 16 pixels in patches of 4: a class token and a 4 x 4 grid; the map lies over the grid."""
    model, x, layer, value, slope = _tokens()
    assert value.shape == (2, 17, 16)
    grid = value[:, 1:].reshape(2, 4, 4, 16)
    weights = slope[:, 1:].mean(1)
    want = torch.einsum("bhwd,bd->bhw", grid, weights)[:, None]
    method = attr.LayerGradCam(model, layer)
    close(method.attribute(x, 2), want)

    def arrange(tokens: Tensor) -> Tensor:
        return tokens[:, 1:].transpose(1, 2).reshape(len(tokens), -1, 4, 4)

    close(method.attribute(x, 2, reshape_transform=arrange), want)
    close(attr.LayerAttribution.interpolate(want, (16, 16)), F.interpolate(want, (16, 16)))


def test_grad_cam_over_the_steps_of_a_sequence() -> None:
    """Tokens of a text have no grid: the map lies over the steps, not over the embedding."""
    whole = subject("lstm")
    found = attr.LayerGradCam(whole.model, whole.model.project).attribute(whole.inputs, 1)
    leaf = whole.model.project(whole.inputs).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(whole.model.head(whole.model.lstm(leaf)[0][:, -1])[:, 1].sum(), leaf)
    want = torch.einsum("btd,bd->bt", leaf.detach(), slope.mean(1))
    close(found, want[:, None])


def test_grad_cam_of_channels_over_time() -> None:
    """``(B, C, T)`` of a convolution stays as it is."""
    net = nn.Sequential(nn.Conv1d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3)).eval()
    x = drawn(2, 2, 6)
    leaf = net[0](x).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(net[1:](leaf)[:, 1].sum(), leaf)
    want = (slope.mean(2, keepdim=True) * leaf.detach()).sum(1, keepdim=True)
    close(attr.LayerGradCam(net, net[0]).attribute(x, 1), want)


def test_layers_of_token_models() -> None:
    """At the word table LayerIG is complete beside the positions, and equals IG of the ids summed by hand."""
    model = model_named("gpt2")
    tokens = subject("gpt2").inputs
    values, delta = attr.LayerIntegratedGradients(model, model.transformer.wte).attribute(
        tokens, torch.zeros_like(tokens), (-1, 5), n_steps=100, return_convergence_delta=True
    )
    by_ids = attr.IntegratedGradients(model).attribute(tokens, torch.zeros_like(tokens), (-1, 5), n_steps=100)
    close(values.sum(-1), by_ids)
    assert delta.abs().max() < 1e-2
