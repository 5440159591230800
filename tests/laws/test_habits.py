"""Models with habits: they write into their inputs, want them contiguous, take keywords only, or keep no gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from tests.cases import Case, keeping
from tests.models import Cnn, seeded
from tests.subjects import Subject, drawn, subject


class Writes(nn.Module):
    """Scales its input in place before the real model sees it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x.mul_(2.0))


class Doubles(nn.Module):
    """The same function without writing."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x * 2.0)


def inside(whole: Subject, model: nn.Module) -> Subject:
    """The subject with its model wrapped."""
    spatial = None if whole.spatial is None else f"model.{whole.spatial}"
    return whole.but(model=model, layer=f"model.{whole.layer}", spatial=spatial)


@pytest.mark.parametrize("case", keeping("restored", attends=None))
def test_a_model_that_writes_into_its_input(case: Case) -> None:
    whole = subject(case.home)
    before = whole.inputs.clone()
    values = case.run(inside(whole, Writes(whole.model)))
    assert torch.equal(whole.inputs, before)
    torch.testing.assert_close(values, case.run(inside(whole, Doubles(whole.model))))


class NeedsContiguous(Cnn):
    """Flattens with ``view``, which refuses feature maps in channels last."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv1(x.view(len(x), 3, 8, 8)))))
        x = self.relu(self.conv2(x))
        return self.head(x.view(len(x), -1))


@pytest.mark.parametrize("case", keeping("structure"))
def test_a_model_that_needs_contiguous_maps(case: Case) -> None:
    """Whatever memory format chunks go in, a model that cannot take it is given the plain one."""
    whole = subject("cnn")
    picky = whole.but(model=seeded(NeedsContiguous))
    torch.testing.assert_close(case.run(picky), case.run(whole), rtol=1e-4, atol=1e-6)
    strided = whole.inputs.to(memory_format=torch.channels_last)
    torch.testing.assert_close(case.run(whole.but(inputs=strided)), case.run(whole), rtol=1e-4, atol=1e-6)


class KeywordOnly(nn.Module):
    """Takes no positional argument."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *, features: Tensor, scale: float = 1.0) -> Tensor:
        return self.model(features) * scale


@pytest.mark.parametrize("case", keeping("structure", where=lambda case: case.home == "mlp" and not case.random))
def test_a_model_that_takes_keywords_only(case: Case) -> None:
    whole = subject("mlp")
    keyword = inside(whole, KeywordOnly(whole.model)).but(
        inputs={"features": whole.inputs}, baselines={"features": whole.baselines}
    )
    values, want = case.run(keyword), case.run(whole)
    torch.testing.assert_close(values if case.place == "layer" else values["features"], want)


def test_keyword_inputs_beside_constants() -> None:
    """Constants may ride along in the mapping."""
    whole = subject("mlp")
    model = KeywordOnly(whole.model)
    values = attr.IntegratedGradients(model).attribute({"features": whole.inputs, "scale": 3.0}, target=1)
    want = attr.IntegratedGradients(whole.model).attribute(whole.inputs, target=1)
    torch.testing.assert_close(values["features"], 3.0 * want)
    assert values["scale"] == 3.0


class ManyArguments(nn.Module):
    """Reads its inputs from ``*args``."""

    def forward(self, *args: Tensor) -> Tensor:
        return sum(((k + 1) * each.sin()).sum(1) for k, each in enumerate(args))  # type: ignore[return-value]


def test_any_number_of_inputs() -> None:
    inputs = tuple(drawn(2, 3, seed=k) for k in range(5))
    values = attr.Saliency(ManyArguments()).attribute(inputs, abs=False)
    torch.testing.assert_close(values, tuple((k + 1) * each.cos() for k, each in enumerate(inputs)))


def test_a_model_in_pieces() -> None:
    """A function that closes over several modules: layers of each are found."""
    first, second = nn.Linear(4, 5), nn.Linear(5, 3)
    x = drawn(2, 4)

    def forward(value: Tensor) -> Tensor:
        return second(torch.tanh(first(value)))

    whole = nn.Sequential(first, nn.Tanh(), second)
    for layer in (first, second):
        found = attr.LayerIntegratedGradients(forward, layer).attribute(x, target=1)
        torch.testing.assert_close(found, attr.LayerIntegratedGradients(whole, layer).attribute(x, target=1))


def test_a_model_that_turns_gradients_off_outside_the_path() -> None:
    """A frozen backbone under ``no_grad`` hides only what lies behind it."""
    backbone, head = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(x: Tensor) -> Tensor:
        with torch.no_grad():
            gate = torch.sigmoid(backbone(x))
        return head(gate * x.sum(1, keepdim=True))

    x = drawn(2, 4)
    leaf = x.clone().requires_grad_(True)
    (want,) = torch.autograd.grad(forward(leaf)[:, 1].sum(), leaf)
    torch.testing.assert_close(attr.Saliency(forward).attribute(x, 1, abs=False), want)


def test_a_layer_of_a_frozen_feature_extractor() -> None:
    """A layer whose value carries no gradient of its own is still a place to start from."""

    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = nn.Linear(4, 5)
            self.layer = nn.Identity()
            self.head = nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                features = self.backbone(x)
            return self.head(torch.tanh(self.layer(features)))

    net, x = seeded(Frozen), drawn(2, 4)
    leaf = net.backbone(x).detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(net.head(torch.tanh(leaf))[:, 1].sum(), leaf)
    found = attr.LayerGradientXActivation(net, net.layer).attribute(x, 1)
    torch.testing.assert_close(found, slope * leaf.detach())


def test_shared_submodules_and_shared_weights() -> None:
    """One module under two names is one module."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Linear(3, 3)
            self.b = self.a
            self.head = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.tanh(self.b(x)))

    net, x = seeded(Tied), drawn(2, 3)
    torch.testing.assert_close(
        attr.LayerConductance(net, net.a).attribute(x, target=1),
        attr.LayerConductance(net, net.b).attribute(x, target=1),
    )


def test_data_parallel_wrappers_are_looked_through() -> None:
    """On a machine without GPUs the wrapper only forwards."""
    whole = subject("mlp")
    wrapped = nn.DataParallel(whole.model)
    torch.testing.assert_close(
        attr.LayerIntegratedGradients(wrapped, whole.module, device_ids=[0]).attribute(whole.inputs, target=1),
        attr.LayerIntegratedGradients(whole.model, whole.module).attribute(whole.inputs, target=1),
    )
