"""Plain gradients, activations and class activation maps, by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum import attr
from captum.errors import InputError
from tests.models import Cnn, seeded
from tests.oracles.loops import chain, gradient, rows
from tests.subjects import drawn

X = drawn(3, 3, seed=4, dtype=torch.float64)
NET = chain()


def close(got: Tensor, want: Tensor, tolerance: float = 1e-10) -> None:
    """Equal in double precision."""
    torch.testing.assert_close(got, want, rtol=tolerance, atol=tolerance)


def test_saliency_and_input_times_gradient() -> None:
    want = rows(lambda x: gradient(lambda p: NET(p)[:, 1], x), X)
    close(attr.Saliency(NET).attribute(X, 1, abs=False), want)
    close(attr.Saliency(NET).attribute(X, 1), want.abs())
    close(attr.InputXGradient(NET).attribute(X, 1), X * want)


def test_layer_activation_and_its_product_with_the_gradient() -> None:
    with torch.no_grad():
        y = NET.layer(X)
    slope = rows(lambda value: gradient(lambda p: NET.head(p)[:, 0], value), y)
    close(attr.LayerActivation(NET, NET.layer).attribute(X), y)
    close(attr.LayerGradientXActivation(NET, NET.layer).attribute(X, 0), y * slope)
    plain = attr.LayerGradientXActivation(NET, NET.layer, multiply_by_inputs=False)
    close(plain.attribute(X, 0), slope)


def test_layers_in_a_list_come_back_in_a_list() -> None:
    layers = [NET.layer[0], NET.layer, NET.head[0]]
    many = attr.LayerGradientXActivation(NET, layers).attribute(X, 0)
    values = attr.LayerActivation(NET, layers).attribute(X)
    assert isinstance(many, list)
    assert isinstance(values, list)
    for layer, product, value in zip(layers, many, values, strict=True):
        close(product, attr.LayerGradientXActivation(NET, layer).attribute(X, 0))
        close(value, attr.LayerActivation(NET, layer).attribute(X))


@pytest.mark.parametrize("j", [0, 3, (2,)])
def test_neuron_gradient(j: int | tuple[int, ...]) -> None:
    index = j if isinstance(j, int) else j[0]
    want = rows(lambda x: gradient(lambda p: NET.layer(p)[:, index], x), X)
    close(attr.NeuronGradient(NET, NET.layer).attribute(X, j), want)


def test_neuron_selectors_sum_slices_and_take_functions() -> None:
    method = attr.NeuronGradient(NET, NET.layer)
    singles = [method.attribute(X, j) for j in range(4)]
    close(method.attribute(X, (slice(1, 3),)), singles[1] + singles[2])
    close(method.attribute(X, slice(0, 4, 2)), singles[0] + singles[2])
    close(method.attribute(X, lambda y: y[:, 0] - 2 * y[:, 3]), singles[0] - 2 * singles[3])


def _cnn() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The net, its input, and value and gradient at its second convolution, by hand."""
    net = seeded(Cnn).double()
    x = drawn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        y = net.conv2(net.pool(F.relu(net.norm(net.conv1(x)))))
    leaf = y.clone().requires_grad_(True)
    score = net.head(F.relu(leaf).flatten(1))[:, 2].sum()
    (slope,) = torch.autograd.grad(score, leaf)
    return net, x, y, slope


def test_grad_cam() -> None:
    """One weight per channel: the mean gradient over places; the map is the weighted sum of channels."""
    net, x, y, slope = _cnn()
    product = slope.mean((2, 3), keepdim=True) * y
    method = attr.LayerGradCam(net, net.conv2)
    close(method.attribute(x, 2), product.sum(1, keepdim=True))
    close(method.attribute(x, 2, relu_attributions=True), product.sum(1, keepdim=True).clamp(min=0))
    close(method.attribute(x, 2, attr_dim_summation=False), product)
    at_input = attr.LayerGradCam(net, net.relu)
    assert at_input.attribute(x, 2).shape == (2, 1, 2, 2)


def test_grad_cam_of_a_flat_layer_is_gradient_times_value() -> None:
    """A 2-D layer has no places to average over (contract 4): ``(B, 1)``."""
    want = attr.LayerGradientXActivation(NET, NET.layer).attribute(X, 0).sum(1, keepdim=True)
    close(attr.LayerGradCam(NET, NET.layer).attribute(X, 0), want)


def _grad_cam_pp(y: Tensor, g: Tensor) -> Tensor:
    """Chattopadhyay et al. 2018, eq. 19 and 13, pixel by pixel; the score inside the exponential."""
    out = torch.zeros(len(y), 1, *y.shape[2:], dtype=y.dtype)
    for b in range(len(y)):
        for channel in range(y.shape[1]):
            total = y[b, channel].sum()
            weight = torch.zeros((), dtype=y.dtype)
            for slope in g[b, channel].flatten():
                below = 2 * slope**2 + total * slope**3
                alpha = slope**2 / below if below != 0 else 0.0
                weight += alpha * slope.clamp(min=0)
            out[b, 0] += weight * y[b, channel]
    return out


def _layer_cam(y: Tensor, g: Tensor) -> Tensor:
    """Jiang et al. 2021: each place has its own weight, the positive part of its gradient."""
    return (g.clamp(min=0) * y).sum(1, keepdim=True)


def _hires_cam(y: Tensor, g: Tensor) -> Tensor:
    """Draelos & Carin 2020: gradient times value at each place."""
    return (g * y).sum(1, keepdim=True)


@pytest.mark.parametrize(
    ("variant", "oracle"), [("grad_cam++", _grad_cam_pp), ("hires_cam", _hires_cam), ("layer_cam", _layer_cam)]
)
def test_variants_of_grad_cam(variant: str, oracle: object) -> None:
    net, x, y, slope = _cnn()
    close(attr.LayerGradCam(net, net.conv2).attribute(x, 2, variant=variant), oracle(y, slope))


def test_eigen_cam_is_the_projection_on_the_first_component() -> None:
    """Muhammad & Yeasin 2020: the values at each place, centred, projected on their first principal direction.

    The direction is that of the largest eigenvalue of the covariance; it points where the activity is high.
    """
    net, x, y, _ = _cnn()
    found = attr.LayerGradCam(net, net.conv2).attribute(x, 2, variant="eigen_cam")
    for b in range(len(y)):
        places = y[b].flatten(1).t()
        centred = places - places.mean(0)
        direction = torch.linalg.eigh(centred.t() @ centred).eigenvectors[:, -1]
        want = (centred @ direction).reshape(y.shape[2:])
        close(found[b, 0].abs(), want.abs(), 1e-8)
        strength = places.abs().sum(1)
        assert (found[b, 0].flatten() * (strength - strength.mean())).sum() > 0


def test_interpolate_is_torchs() -> None:
    value = drawn(2, 1, 3, 3)
    close(attr.LayerAttribution.interpolate(value, (6, 5)), F.interpolate(value, (6, 5)))
    bilinear = F.interpolate(value, (7, 7), mode="bilinear")
    close(attr.LayerAttribution.interpolate(value, 7, "bilinear"), bilinear)
    for mistake in ((value[0, 0], 7), (value, (7, 7, 7)), (value, 7, "cubic"), ((value,), 7)):
        with pytest.raises(InputError, match="spatial"):
            attr.LayerAttribution.interpolate(*mistake)
