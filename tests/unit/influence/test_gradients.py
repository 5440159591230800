"""Gradients of single examples for every kind of module, against one pass per example."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import captum.influence.gradients
from captum.errors import InputError
from captum.influence import TracInCP
from tests.unit.influence.parts import as_it_is, cross_entropy, gradients, state


class Tied(nn.Module):
    """Shared weights, and one layer that runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.norm = nn.LayerNorm(4)
        self.twice = nn.Linear(4, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.embedding(x))
        return self.out(self.twice(torch.tanh(self.twice(hidden)))).mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.out = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.lstm(x)[0][:, -1])


class Looks(nn.Module):
    """Code that decides by numbers cannot be vectorised."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * 2) if float(x.sum()) > 0 else self.out(x)


class Lies(nn.Module):
    """Code that gives other numbers when it is vectorised."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(x * (3 if torch._C._functorch.is_functorch_wrapped_tensor(x) else 1))


def norms() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.Unflatten(1, (2, 3)), nn.GroupNorm(1, 2), nn.Flatten())
    model[1].running_mean.copy_(torch.arange(6) / 6)
    return nn.Sequential(model, nn.Linear(6, 5)).eval()


def convolutions() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 3, padding="same", groups=2), nn.PReLU(), nn.Unflatten(2, (3, 2)),
        nn.Conv2d(4, 4, 2, groups=4, padding=1, padding_mode="circular"), nn.Flatten(), nn.LazyLinear(5),
    )  # fmt: skip


def attention() -> nn.Module:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(12, 5)).eval()


IDS = torch.arange(21).reshape(7, 3) % 5
FLOATS = torch.sin(torch.arange(84.0))
CASES = {
    "tied": (Tied, IDS),
    "bag": (lambda: nn.Sequential(nn.EmbeddingBag(5, 4, mode="max"), nn.Linear(4, 5)), IDS),
    "recurrent": (Recurrent, FLOATS[:63].reshape(7, 3, 3)),
    "norms": (norms, FLOATS[:21].reshape(7, 3)),
    "convolutions": (convolutions, FLOATS.reshape(7, 2, 6)),
    "attention": (attention, FLOATS.reshape(7, 3, 4)),
    "looks": (Looks, FLOATS[:21].reshape(7, 3)),
    "lies": (Lies, FLOATS[:21].reshape(7, 3)),
}
LABELS = torch.arange(7) % 5


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("name", CASES)
def test_every_module_counts(name, reduction):
    build, inputs = CASES[name]
    torch.manual_seed(0)
    model = build()
    model(inputs[:1])  # lazy layers
    model = model.double()
    x = inputs.double() if inputs.dtype.is_floating_point else inputs
    before = state(model)
    method = TracInCP(
        model, TensorDataset(x, LABELS), [1], as_it_is, None, cross_entropy(reduction), 3, None, reduction != "none"
    )
    found = method.influence((x[:2], LABELS[:2]))
    names = [n for n, _ in model.named_parameters()]
    assert state(model) == before
    rows = gradients(model, names, cross_entropy("none"), x, LABELS)
    torch.testing.assert_close(found, rows[:2] @ rows.T)


def test_chunks_are_invisible(monkeypatch):
    torch.manual_seed(0)
    model = Tied()
    data, tests = TensorDataset(IDS, LABELS), (IDS[:2], LABELS[:2])
    whole = TracInCP(model, data, [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=7).influence(tests)
    rows = captum.influence.gradients.ExampleGradients(model, ["norm.weight"], budget=1)
    assert rows._limit == 1
    monkeypatch.setattr(captum.influence.gradients.ExampleGradients.__init__, "__defaults__", (1,))
    parts = TracInCP(model, data, [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=7).influence(tests)
    torch.testing.assert_close(parts, whole)


def test_no_memory_halves_the_piece(monkeypatch):
    torch.manual_seed(0)
    model = Tied()
    method = TracInCP(model, TensorDataset(IDS, LABELS), [1], as_it_is, None, cross_entropy("none"), 7)
    wanted = method.influence((IDS, LABELS))
    rows = method._gradients
    seen: list[int] = []
    at_once = rows._at_once

    def scarce(batch, loss):
        seen.append(batch.size)
        if batch.size > 3:
            raise torch.cuda.OutOfMemoryError
        return at_once(batch, loss)

    monkeypatch.setattr(rows, "_at_once", scarce)
    torch.testing.assert_close(method.influence((IDS, LABELS)), wanted)
    assert seen[:3] == [7, 3, 3]


def test_half_precision_is_summed_in_single():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 5).to(torch.bfloat16), FLOATS[:21].reshape(7, 3)
    data = TensorDataset(x.bfloat16(), LABELS)
    found = TracInCP(model, data, [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=4).influence(
        (x[:2].bfloat16(), LABELS[:2])
    )
    assert found.dtype == torch.float32
    rows = gradients(model.float(), ["weight", "bias"], cross_entropy("none"), x, LABELS)
    torch.testing.assert_close(found, rows[:2] @ rows.T, rtol=0.05, atol=0.02)


def test_several_inputs_and_dicts():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out = nn.Linear(3, 5)

        def forward(self, features: dict[str, Tensor], scale: Tensor) -> Tensor:
            return self.out(features["x"]) * scale[:, None]

    torch.manual_seed(0)
    model, x, scale = Two(), FLOATS[:21].reshape(7, 3), torch.arange(7.0)

    class Data(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 7

        def __getitem__(self, i: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
            return {"x": x[i]}, scale[i], LABELS[i]

    found = TracInCP(model, Data(), [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=3).influence(
        ({"x": x[:2]}, scale[:2], LABELS[:2])
    )
    rows = []
    for i in range(7):
        loss = cross_entropy("sum")(model({"x": x[i : i + 1]}, scale[i : i + 1]), LABELS[i : i + 1])
        rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
    torch.testing.assert_close(found, torch.stack(rows[:2]) @ torch.stack(rows).T)


@pytest.mark.parametrize("broken", [lambda: nn.BatchNorm1d(3), lambda: nn.BatchNorm1d(3, track_running_stats=False)])
def test_statistics_of_the_batch_are_refused(broken):
    model = nn.Sequential(broken(), nn.Linear(3, 5))
    if model[0].track_running_stats:
        model.train()
    else:
        model.eval()
    before = state(model)
    x = FLOATS[:21].reshape(7, 3)
    method = TracInCP(model, TensorDataset(x, LABELS), [1], as_it_is, loss_fn=cross_entropy("none"))
    with pytest.raises(InputError, match=r"BatchNorm1d at '0'.*model\.eval"):
        method.influence((x, LABELS))
    assert state(model) == before
    if model[0].track_running_stats:
        modes = TracInCP(model, TensorDataset(x, LABELS), [1], lambda m, _: 1.0 if m.eval() else 0.0)
        modes.influence((x, LABELS))
        assert model.training


def test_a_compiled_model_gives_the_same():
    torch.manual_seed(0)
    model, x = nn.Linear(3, 5), FLOATS[:21].reshape(7, 3)
    data = TensorDataset(x, LABELS)
    found = TracInCP(torch.compile(model), data, [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=3)
    plain = TracInCP(model, data, [1], as_it_is, loss_fn=cross_entropy("none"), batch_size=3)
    torch.testing.assert_close(found.influence((x, LABELS)), plain.influence((x, LABELS)))
