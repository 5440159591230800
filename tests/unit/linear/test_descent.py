"""Training by gradient descent: single steps by hand, and where it ends."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from captum import linear
from captum.errors import InputError
from captum.linear.descent import ConvergenceTracker, LossWindow, l2_loss

GEN = torch.Generator().manual_seed(1)
X = torch.randn(60, 3, generator=GEN)
TRUTH = torch.tensor([1.0, -2.0, 0.5])
Y = X @ TRUTH + 3
W = torch.rand(60, generator=GEN)


def loader(*tensors: Tensor, batch_size: int = 20) -> DataLoader:
    return DataLoader(TensorDataset(*tensors), batch_size=batch_size)


@pytest.mark.parametrize("window", [None, 3, 10])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("column", [True, False])
def test_it_finds_the_coefficients(window: int | None, dtype: torch.dtype, column: bool) -> None:
    model = linear.SGDLinearRegression()
    targets = Y[:, None] if column else Y
    data = loader(X.to(dtype), targets.to(dtype), W.to(dtype))
    figures = model.fit(data, initial_lr=0.3, max_epoch=300, running_loss_window=window, threshold=1e-9)
    torch.testing.assert_close(model.representation(), TRUTH[None].to(dtype), rtol=0, atol=2e-3)
    torch.testing.assert_close(model.bias(), torch.tensor([3.0], dtype=dtype), rtol=0, atol=2e-3)
    assert figures["train_loss"] < 1e-5
    assert figures["train_epoch"] < 300, "it should have stopped by itself"
    assert 3 * (figures["train_epoch"] - 1) < figures["train_iter"] <= 3 * figures["train_epoch"]


@pytest.mark.parametrize(
    ("kind", "order"), [(linear.SGDLasso, 1), (linear.SGDRidge, 2), (linear.SGDLinearRegression, None)]
)
@pytest.mark.parametrize("weighted", [True, False])
def test_two_steps_by_hand(kind, order: int | None, weighted: bool) -> None:
    alpha, rate = 0.7, 0.1
    weights = W if weighted else torch.ones(60)
    c, b = torch.zeros(1, 3), torch.zeros(1)
    model = kind()
    options = {} if order is None else {"alpha": alpha}
    for epochs in (1, 2):
        wrong = (X @ c[0] + b - Y) * weights / weights.sum()
        penalty = torch.zeros(1, 3)
        if order == 1:
            penalty = c.sign()
        elif order == 2 and bool(c.any()):
            penalty = c / c.norm()
        c, b = c - rate * (wrong @ X + alpha * penalty), b - rate * wrong.sum()
        model.fit(loader(X, Y, *([W] if weighted else []), batch_size=60), max_epoch=epochs, initial_lr=rate, **options)
        torch.testing.assert_close(model.representation(), c)
        torch.testing.assert_close(model.bias(), b)


def test_lasso_drops_what_does_not_matter() -> None:
    model = linear.SGDLasso()
    model.fit(loader(X, X[:, 0] * 3, batch_size=60), alpha=0.5, initial_lr=0.1, max_epoch=500, threshold=1e-7)
    strong, *weak = model.representation()[0].abs().tolist()
    assert 1.5 < strong < 3
    assert max(weak) < 0.1


def test_several_outputs_and_no_bias() -> None:
    model = linear.SGDLinearModel(bias=False)
    targets = torch.stack([X @ TRUTH, -X @ TRUTH], 1)
    model.fit(loader(X, targets), initial_lr=0.5, alpha=0.0, max_epoch=200, threshold=1e-9)
    torch.testing.assert_close(model.representation(), torch.stack([TRUTH, -TRUTH]), rtol=0, atol=5e-3)
    assert model.bias() is None


@pytest.mark.parametrize(("norm", "kind"), [("batch_norm", torch.nn.BatchNorm1d), ("layer_norm", torch.nn.LayerNorm)])
@pytest.mark.parametrize("affine", [True, False])
def test_norms(norm: str, kind: type, affine: bool) -> None:
    model = linear.SGDLinearModel(norm_type=norm, affine_norm=affine)
    model.fit(loader(X.double(), Y.double()), max_epoch=3)
    assert isinstance(model.norm, kind)
    assert bool(list(model.norm.parameters())) is affine
    assert not model.training
    alone, together = model(X[:1].double()), model(X.double())[:1]
    torch.testing.assert_close(alone, together)  # rows do not depend on each other after training


def test_where_it_starts() -> None:
    torch.manual_seed(5)
    model = linear.SGDLinearModel()
    model.fit(loader(X, Y), max_epoch=1, initial_lr=0.0, init_scheme="xavier")
    first = model.representation()
    assert 0 < first.abs().max() <= (6 / 4) ** 0.5
    assert model.bias().item() == 0
    model.fit(loader(X, Y), max_epoch=1, initial_lr=0.0, init_scheme="zeros")
    assert not model.representation().any()
    torch.manual_seed(5)
    model.fit(loader(X, Y), max_epoch=1, initial_lr=0.0, init_scheme=None)
    torch.manual_seed(5)
    DataLoader([0]).__iter__()._next_data()
    assert model.bias().item() != 0


def test_the_end_is_reached_without_gradients_switched_on() -> None:
    model = linear.SGDLinearRegression()
    with torch.no_grad():
        model.fit(loader(X, Y), initial_lr=0.3, max_epoch=5)
    assert model.representation().abs().sum() > 1


def test_debug_prints_each_batch(capsys: pytest.CaptureFixture[str]) -> None:
    linear.SGDLinearModel().fit(loader(X, Y), max_epoch=2, debug=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("lr=0.01 loss=") for line in lines)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"max_epoch": 0}, "max_epoch"),
        ({"running_loss_window": 0}, "running_loss_window"),
        ({"init_scheme": "ones"}, "init_scheme"),
        ({"initial_lr": 1e6}, "lower initial_lr, now 1000000.0"),
    ],
)
def test_options_that_cannot_work(options: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        linear.SGDLinearRegression().fit(loader(X, Y), **options)


def test_data_and_models_that_cannot_work() -> None:
    with pytest.raises(InputError, match="no rows"):
        linear.SGDLasso().fit([])
    with pytest.raises(InputError, match="norm_type must be one of"):
        linear.SGDLasso(norm_type="group_norm").fit(loader(X, Y))
    with pytest.raises(TypeError, match="reg_term"):
        linear.SGDLasso().fit(loader(X, Y), reg_term=2)


def test_l2_loss() -> None:
    a, b = torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 4, 3])
    assert l2_loss(a, b).item() == pytest.approx(5 / 6)
    assert l2_loss(a, b, torch.tensor([1.0, 2, 1])).item() == pytest.approx(9 / 8)
    assert l2_loss(a[:, None], b[:, None], torch.tensor([1.0, 2, 1])).item() == pytest.approx(9 / 8)


def test_convergence_and_window() -> None:
    tracker = ConvergenceTracker(patience=2, threshold=0.1)
    answers = [tracker.update(torch.tensor(loss)) for loss in (5.0, 4.0, 3.95, 3.0, 2.95, 2.94, 1.0)]
    assert answers == [False, False, False, False, False, True, True]
    window = LossWindow(2)
    with pytest.raises(InputError, match="empty"):
        window.average()
    for loss in (1.0, 3.0, 5.0):
        window.append(torch.tensor(loss))
    assert window.average().item() == 4.0


def test_copies() -> None:
    model = linear.SGDRidge(norm_type="layer_norm")
    model.fit(loader(X, Y), max_epoch=2)
    assert torch.equal(copy.deepcopy(model)(X), model(X))
