"""Guided backpropagation and deconvolution by hand, and Grad-CAM times it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import (
    Deconvolution,
    GuidedBackprop,
    GuidedGradCam,
    LayerGradCam,
    NeuronDeconvolution,
    NeuronGuidedBackprop,
    Saliency,
)
from captum.errors import CaptumWarning, InputError, LayerError


class Net(nn.Module):
    """ReLU as a module, a function, a method, in place, twice in a row, and as a clamp."""

    def __init__(self, how: str = "module") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.out = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Linear(80, 2)
        self.relu = nn.ReLU(inplace=how == "module in place")
        self.how = how

    def act(self, x: Tensor) -> Tensor:
        match self.how:
            case "function":
                return F.relu(x)
            case "method":
                return x.relu()
            case "method in place":
                return x.relu_()
            case "function in place":
                return F.relu(x, inplace=True)
            case "clamp":
                return x.clamp(min=0)
            case "clamp by a tensor":
                return torch.clamp(input=x, min=torch.zeros(()))
            case "maximum":
                return torch.maximum(torch.zeros_like(x), x)
            case "max":
                return x.max(torch.tensor(0.0))
            case "threshold":
                return F.threshold(x, 0, 0)
            case "twice":
                return F.relu(torch.relu(x))
            case "made on the way":
                return nn.ReLU()(x)
        return self.relu(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.b(self.act(self.a(x)))).flatten(1))


X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def by_hand(model: Net, deconvolution: bool) -> Tensor:
    with torch.no_grad():
        a = model.a(X)
        b = model.b(a.relu())
        g = model.out.weight[1].view(1, 5, 4, 4).expand(2, -1, -1, -1).clamp(min=0)
        g = F.conv_transpose2d(g if deconvolution else g * (b > 0), model.b.weight).clamp(min=0)
        return F.conv_transpose2d(g if deconvolution else g * (a > 0), model.a.weight)


@pytest.mark.parametrize(
    "how",
    ["module", "module in place", "function", "function in place", "method", "method in place", "clamp",
     "clamp by a tensor", "maximum", "max", "threshold", "twice",
     "made on the way"],
)  # fmt: skip
def test_every_way_to_call_relu(how: str) -> None:
    model = Net(how)
    torch.testing.assert_close(GuidedBackprop(model).attribute(X, 1), by_hand(model, deconvolution=False))
    torch.testing.assert_close(Deconvolution(model).attribute(X, 1), by_hand(model, deconvolution=True))


def test_neurons() -> None:
    model = Net()
    torch.testing.assert_close(
        NeuronGuidedBackprop(model, model.out).attribute(X, 1), GuidedBackprop(model).attribute(X, 1)
    )
    torch.testing.assert_close(
        NeuronDeconvolution(model, model.out).attribute(X, 1), Deconvolution(model).attribute(X, 1)
    )


def test_a_model_without_relu_is_refused_until_its_activations_are_named() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.GELU(), nn.Linear(6, 2))
    for method in (GuidedBackprop, Deconvolution):
        with pytest.raises(InputError, match=r"activations=\('gelu',\)"):
            method(model).attribute(X, 0)
    found = GuidedBackprop(model, activations=("gelu",)).attribute(X, 0)
    h = (model[1](X.flatten(1))).detach().requires_grad_()
    (slope,) = torch.autograd.grad(F.gelu(h).sum(), h)
    g = model[3].weight[0].clamp(min=0) * slope.clamp(min=0)
    torch.testing.assert_close(found.flatten(1), (g @ model[1].weight).detach())
    with pytest.raises(InputError, match="element-wise"):
        GuidedBackprop(model, activations=("conv2d",)).attribute(X, 0)


CAPS: dict[str, tuple[float, Callable[[Tensor], Tensor]]] = {
    "ReLU6": (6.0, nn.ReLU6()),
    "ReLU6 in place": (6.0, lambda h: nn.ReLU6(inplace=True)(h + 0)),
    "relu6": (6.0, F.relu6),
    "hardtanh": (2.0, lambda h: F.hardtanh(h, 0, 2)),
    "clamp": (0.5, lambda h: h.clamp(0, 0.5)),
    "clamp by keywords": (0.5, lambda h: torch.clamp(h, max=0.5, min=0.0)),
}


class Capped(nn.Module):
    """A ReLU that ends somewhere, in a model without any other."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.into, self.out, self.act = nn.Linear(192, 6), nn.Linear(6, 2), act

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(8 * self.into(x.flatten(1))))


@pytest.mark.parametrize("how", CAPS)
def test_a_relu_that_ends_is_a_relu(how: str) -> None:
    cap, act = CAPS[how]
    model = Capped(act)
    with torch.no_grad():
        h = 8 * model.into(X.flatten(1))
        top = model.out.weight[1].clamp(min=0)
        assert bool((h > cap).any())
        guided, passed = top * (h > 0) * (h < cap), top.expand(2, 6)
        wants = [(8 * g @ model.into.weight).view_as(X) for g in (guided, passed)]
    torch.testing.assert_close(GuidedBackprop(model).attribute(X, 1), wants[0])
    torch.testing.assert_close(Deconvolution(model).attribute(X, 1), wants[1])


@pytest.mark.parametrize(
    ("act", "hint"),
    [(F.hardtanh, r"calls hardtanh: .*\('hardtanh',\)"), (lambda h: h.sigmoid() * h.tanh(), "calls sigmoid, tanh:"),
     (lambda h: h.clamp(0.1, 6), "calls clamp:"), (lambda h: h * 2, "no other element-wise function")],
)  # fmt: skip
def test_the_refusal_names_what_was_seen(act: Callable[[Tensor], Tensor], hint: str) -> None:
    with pytest.raises(InputError, match=hint):
        GuidedBackprop(Capped(act)).attribute(X, 1)


def test_other_activations_keep_their_derivative() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Tanh(), nn.Linear(6, 1))
    with torch.no_grad():
        h = model[1](X.flatten(1)).relu()
        g = (model[4].weight * (1 - h.tanh() ** 2)).clamp(min=0) * (h > 0)
    torch.testing.assert_close(GuidedBackprop(model).attribute(X).flatten(1), g @ model[1].weight.detach())


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_guided_grad_cam_is_the_product(mode: str) -> None:
    model = Net()
    heat = LayerGradCam(model, model.b).attribute(X, 1, relu_attributions=True)
    want = GuidedBackprop(model).attribute(X, 1) * F.interpolate(heat.detach(), (8, 8), mode=mode)
    torch.testing.assert_close(GuidedGradCam(model, model.b).attribute(X, 1, interpolate_mode=mode), want)


def test_a_layer_that_is_no_map_is_refused() -> None:
    model = Net()
    with pytest.raises(LayerError, match="resized"):
        GuidedGradCam(model, model.out).attribute(X, 1)


def test_it_is_not_the_plain_gradient() -> None:
    model = Net("function")
    plain = Saliency(model).attribute(X, 1, abs=False)
    assert (GuidedBackprop(model).attribute(X, 1) - plain).abs().max() > 1e-3


def test_training_mode_warns() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.ReLU(), nn.Dropout(), nn.Linear(6, 1))
    for method in (GuidedBackprop, Deconvolution):
        with pytest.warns(CaptumWarning, match=r"Module '3' is in training mode"):
            method(model).attribute(X)


def test_only_modules() -> None:
    for method in (GuidedBackprop, Deconvolution):
        with pytest.raises(AssertionError, match=r"nn\.Module"):
            method(lambda x: x)
