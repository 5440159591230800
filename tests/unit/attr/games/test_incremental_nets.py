"""Occlusion by increments on networks drawn at random."""

from __future__ import annotations

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum.attr import Occlusion


def layer(data: st.DataObject, inside: int, side: int) -> tuple[nn.Module, int]:
    """A layer that leaves at least one pixel, and the channels that it gives."""
    outside, stride = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 3))
    kernel = data.draw(st.integers(1, min(4, side)))
    padding, dilation = data.draw(st.integers(0, kernel // 2)), data.draw(st.integers(1, 2)) if 2 * kernel < side else 1
    kinds: list[tuple[nn.Module, int]] = [
        (nn.Conv2d(inside, outside, kernel, stride, padding, dilation), outside),
        (nn.Conv2d(inside, 2 * inside, kernel, stride, padding, groups=inside), 2 * inside),
        (nn.MaxPool2d(kernel, stride, padding, ceil_mode=data.draw(st.booleans())), inside),
        (nn.AvgPool2d(kernel, stride, padding), inside),
        (nn.Sequential(nn.BatchNorm2d(inside), nn.ReLU(inplace=True)), inside),
        (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.GELU()), inside),
        (Beside(nn.Conv2d(inside, inside, 3, padding=1)), 2 * inside),
    ]
    return data.draw(st.sampled_from(kinds))


class Beside(nn.Module):
    """What a layer makes of its input, added to it and put beside it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x)
        return torch.cat([y, x * y.tanh()], 1)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_any_net_of_local_layers(data: st.DataObject) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    channels = data.draw(st.integers(1, 3))
    height, width = data.draw(st.integers(9, 24)), data.draw(st.integers(9, 24))
    x = torch.randn(data.draw(st.integers(1, 3)), channels, height, width, dtype=torch.float64)
    body = nn.Sequential()
    shape, inside = (height, width), channels
    for _ in range(data.draw(st.integers(1, 5))):
        made, inside = layer(data, inside, min(shape))
        body.append(made)
        shape = body.double().eval()(x).shape[2:]
    net = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inside, 3)).double().eval()
    window = (channels, data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    strides = (channels, *[data.draw(st.integers(max(1, w // 3), w)) for w in window[1:]])
    fast = Occlusion(net).attribute(x, window, strides, target=1, incremental=True)
    torch.testing.assert_close(fast, Occlusion(net).attribute(x, window, strides, target=1), rtol=1e-9, atol=1e-12)
