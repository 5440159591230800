"""Identities at the inputs of a model."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from captum.attr.input_modules import Addition_Module, InputIdentity, ModelInputWrapper
from captum.errors import InputError, InputTypeError


class Mixed(nn.Module):
    def forward(self, x: Tensor, y: Tensor, *rest: Tensor, scale: float = 1.0, **named: Tensor) -> Tensor:
        return (x + 10 * y + 100 * sum(rest) + 1000 * sum(named.values())) * scale


def test_every_form_of_call_passes_through() -> None:
    model = Mixed()
    wrapper = ModelInputWrapper(model)
    assert list(wrapper.input_maps) == wrapper.arg_name_list == ["x", "y", "scale"]
    assert wrapper.module is model
    for args, kwargs in [((1, 2), {}), ((1, 2, 3, 4), {}), ((1, 2), {"scale": 3.0}), ((1,), {"y": 2, "other": 5})]:
        assert wrapper(*args, **kwargs) == model(*args, **kwargs)
    assert wrapper(x=1, y=2) == 21
    with pytest.raises(TypeError):
        wrapper(1)


def test_hooks_see_and_replace_an_input() -> None:
    wrapper = ModelInputWrapper(Mixed())
    seen = []
    wrapper.input_maps["x"].register_forward_hook(lambda module, args, out: seen.append(args[0]))
    wrapper.input_maps["y"].register_forward_hook(lambda module, args, out: out * 0)
    assert wrapper(torch.ones(1), torch.ones(1)).item() == 1
    assert torch.equal(seen[0], torch.ones(1))
    assert wrapper(torch.ones(1), y=torch.ones(1)).item() == 1  # by keyword too


def test_wrapping_adds_no_weights_and_copies() -> None:
    model = nn.Bilinear(2, 3, 1)
    wrapper = ModelInputWrapper(model)
    assert list(wrapper.parameters()) == list(model.parameters())
    x, y = torch.randn(4, 2), torch.randn(4, 3)
    assert torch.equal(copy.deepcopy(wrapper)(x, y), model(x, y))
    assert "(input1): InputIdentity(input1)" in repr(wrapper)


def test_what_cannot_be_wrapped() -> None:
    class Keys(nn.Module):
        def forward(self, keys: Tensor) -> Tensor:
            return keys

    with pytest.raises(InputTypeError, match="got a function"):
        ModelInputWrapper(lambda x: x)
    with pytest.raises(InputError, match="keys"):
        ModelInputWrapper(Keys())


def test_small_modules() -> None:
    assert Addition_Module()(torch.tensor(1), torch.tensor(2)).item() == 3
    assert InputIdentity("name").input_name == "name"
    thing = object()
    assert InputIdentity("name")(thing) is thing
