"""Layers whose values have the batch in another dim than the first are explained like those that have it there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum._engine.batch_axis import grown, rehearse, settled
from captum._engine.rows import Rows


class Steps(nn.Module):
    """An LSTM, time first or batch first, and a score that reads all steps; it keeps what it computed last."""

    def __init__(self, time_major: bool, tokens: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.major = time_major
        self.table = nn.Embedding(9, 4) if tokens else nn.Identity()
        self.lstm, self.head = nn.LSTM(4, 3, batch_first=not time_major), nn.Linear(3, 2)
        self.kept: Tensor | None = None
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x)
        self.kept = self.lstm(x.transpose(0, 1) if self.major else x)[0]
        self.calls.append(len(x))
        out = self.kept.transpose(0, 1) if self.major else self.kept
        return self.head((out[:, -1] * out.mean(1)).tanh())


Find = Callable[[Steps, Tensor, Tensor], object]
# how a method is called, and whether its result has the layer's own form
METHODS: dict[str, tuple[Find, bool]] = {
    "LayerIntegratedGradients": (
        lambda m, x, b: attr.LayerIntegratedGradients(m, m.lstm).attribute(x, b, target=1, n_steps=8), True
    ),
    "LayerIntegratedGradients, a row at a time": (
        lambda m, x, b: attr.LayerIntegratedGradients(m, m.lstm).attribute(
            x, b, target=1, n_steps=8, internal_batch_size=1
        ), True
    ),
    "LayerConductance": (lambda m, x, b: attr.LayerConductance(m, m.lstm).attribute(x, b, target=1, n_steps=8), True),
    "InternalInfluence": (lambda m, x, b: attr.InternalInfluence(m, m.lstm).attribute(x, b, target=1), True),
    "LayerGradientShap": (lambda m, x, b: attr.LayerGradientShap(m, m.lstm).attribute(x, b, target=1, seed=0), True),
    "LayerGradientXActivation": (lambda m, x, _: attr.LayerGradientXActivation(m, m.lstm).attribute(x, target=1), True),
    "LayerDeepLift": (lambda m, x, b: attr.LayerDeepLift(m, m.lstm).attribute(x, b, target=1), True),
    "LayerGradCam": (
        lambda m, x, _: attr.LayerGradCam(m, m.lstm).attribute(x, target=1, attr_dim_summation=False)[0], False
    ),
    "NeuronGradient": (
        lambda m, x, _: attr.NeuronGradient(m, m.table).attribute(x, (0, 2)), False
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (2, 5), (3, 3), (1, 1), (3, 2), (5, 3)])
def test_time_first_gives_what_batch_first_gives(method: str, batch: int, length: int) -> None:
    find, own_form = METHODS[method]
    x = torch.randn(batch, length, 4, generator=torch.Generator().manual_seed(1))
    baseline = 0.1 * x.flip(0) + 0.05
    model = Steps(time_major=True)
    found, want = find(model, x, baseline), find(Steps(time_major=False), x, baseline)
    first = found[0] if isinstance(found, tuple) else found
    other = want[0] if isinstance(want, tuple) else want
    assert isinstance(first, Tensor)
    assert isinstance(other, Tensor)
    assert other.abs().max() > 1e-4
    torch.testing.assert_close(first.transpose(0, 1) if own_form else first, other)


@pytest.mark.parametrize("length", [2, 5])
def test_tokens_and_a_time_major_layer_go_together(length: int) -> None:
    ids = torch.arange(2 * length).reshape(2, length) % 9
    found = [
        attr.LayerConductance(m, m.lstm).attribute(ids, target=1)[0]
        for m in (Steps(True, tokens=True), Steps(False, tokens=True))
    ]
    torch.testing.assert_close(found[0].transpose(0, 1), found[1])
    neurons = [
        attr.NeuronIntegratedGradients(m, m.lstm).attribute(ids, lambda v, a=a: v[0].select(a, 1)[:, 2])
        for m, a in ((Steps(True, tokens=True), 0), (Steps(False, tokens=True), 1))
    ]
    torch.testing.assert_close(neurons[0], neurons[1])


def test_a_neuron_is_counted_after_the_batch_wherever_that_is() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mix = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.mix(x.transpose(0, 1)).sum((0, 2))

    model = Turned()
    for batch in (1, 2, 4):
        x = torch.randn(batch, 4, 3)
        found = attr.NeuronGradient(model, model.mix).attribute(x, (2, 1))
        want = torch.zeros_like(x)
        want[:, 2] = model.mix.weight.detach()[1]
        torch.testing.assert_close(found, want)


def test_the_model_runs_once_more_only_where_sizes_leave_it_open() -> None:
    for batch, extra in ((1, 0), (2, 0), (4, 1), (3, 0)):  # the value is (batch, 4, 4)
        model = Steps(time_major=False)
        layer = attr.LayerIntegratedGradients(model, model.table)
        layer.attribute(torch.randn(batch, 4, 4), target=1, n_steps=1, internal_batch_size=None)
        assert model.calls == [batch + 1] * extra + [batch] * 3  # the rehearsal while the end is read, start, a step
        assert model.kept is not None
        assert len(model.kept) == batch


def test_a_rehearsal_leaves_streams_and_attributes_alone() -> None:
    model = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3))
    x, before = torch.randn(2, 3), torch.get_rng_state()
    seen: list[tuple[int, ...]] = []

    def run(tensors: tuple[Tensor, ...], rows: Rows) -> None:
        model[0].extra = 1
        seen.append((*tensors[0].shape, rows.count))
        model(tensors[0])

    rehearse(run, (x,), Rows(2), list(model.modules()))
    assert seen == [(3, 3, 3)]
    assert not hasattr(model[0], "extra")
    assert torch.equal(before, torch.get_rng_state())


def test_sizes_tell_or_growth_does() -> None:
    assert settled((4, 7), 4)
    assert settled((5, 7), 4)
    assert settled((), 4)
    assert not settled((4, 4), 4)
    assert not settled((7, 4), 4)
    assert grown((7, 4), (7, 5), 4) == 1
    assert grown((4, 4, 2), (5, 4, 2), 4) == 0
    assert grown((4, 4, 2), (4, 5, 2), 4) == 1
    assert grown((7, 4), (7, 4), 4) == 0
    assert grown((7, 4), (4,), 4) == 0
