"""What one call finds out about a model serves the next one: same numbers, and a model that has changed is noticed."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine import recollection, sweep
from captum._engine.folding import Pending
from captum.attr import GradientShap, IntegratedGradients, LayerConductance, LayerIntegratedGradients, NoiseTunnel
from captum.attr import Saliency as Gradient

SIDE = 18
STEPS = 16


class Net(nn.Module):
    """Two convolutions with batch norms, whose forward pass can be changed from outside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.norm = nn.BatchNorm2d(16)
        self.second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.last = nn.BatchNorm2d(16)
        self.head = nn.Linear(16, 3)
        self.dropout = nn.Dropout(0.3)
        self.between: Callable[[Tensor], Tensor] = lambda y: y
        self.rows: list[int] = []
        for norm in (self.norm, self.last):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.3, 3)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.rows.append(len(x))
        y = F.silu(self.norm(self.between(self.first(x))))
        y = self.last(self.second(y)).tanh_()
        return self.head(self.dropout(F.adaptive_avg_pool2d(y, 1).flatten(1)))


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Planned chunks of two rows, whatever time they take."""
    monkeypatch.setattr(sweep, "BUSY_ELEMENTS", 3 * SIDE * SIDE * 2)
    monkeypatch.setattr(sweep, "SHORT", 0.0)


def image() -> Tensor:
    return torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def explain(net: nn.Module) -> Tensor:
    return IntegratedGradients(net).attribute(image(), target=1, n_steps=STEPS)


def by_hand(net: nn.Module) -> Tensor:
    """Integrated gradients without any engine."""
    x = image()
    nodes, weights = (torch.from_numpy(a).float() for a in __import__("numpy").polynomial.legendre.leggauss(STEPS))
    points = (x * ((nodes + 1) / 2).reshape(-1, 1, 1, 1)).requires_grad_()
    grads = torch.autograd.grad(net(points)[:, 1].sum(), points)[0]
    return x * (grads * (weights / 2).reshape(-1, 1, 1, 1)).sum(0, keepdim=True)


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got, want, rtol=1e-4, atol=2e-6 * float(want.abs().max()))


CALLS: dict[str, Callable[[Net], Any]] = {
    "integrated gradients": explain,
    "noise tunnel": lambda n: NoiseTunnel(Gradient(n)).attribute(image(), nt_samples=STEPS, target=1, seed=3),
    "gradient shap": lambda n: GradientShap(n).attribute(
        image(), torch.zeros(2, 3, SIDE, SIDE), n_samples=STEPS, target=1, seed=3
    ),
    "conductance": lambda n: LayerConductance(n, n.second).attribute(image(), target=1, n_steps=STEPS),
    "layer path": lambda n: LayerIntegratedGradients(n, n.norm).attribute(image(), target=1, n_steps=STEPS),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=list(CALLS))
def test_the_second_call_has_no_trial_and_the_same_bits(call: Callable[[Net], Any]) -> None:
    net = Net()
    first = call(net)
    with_trial = len(net.rows)
    net.rows.clear()
    second = call(net)
    assert len(net.rows) == with_trial - 1
    assert torch.equal(first, second)


def test_the_second_call_folds_from_its_first_chunk_on() -> None:
    net, kinds = Net(), []
    net.norm.register_forward_pre_hook(lambda _m, args: kinds.append(type(args[0])))
    explain(net)
    assert kinds[0] is Tensor
    kinds.clear()
    explain(net)
    assert set(kinds) == {Pending}


def _swap_norm(net: Net) -> None:
    net.norm = nn.BatchNorm2d(16, eps=0.5).eval()


def _drop_norm(net: Net) -> None:
    net.norm = nn.Identity()  # type: ignore[assignment]


def _read_between(net: Net) -> None:
    net.between = lambda y: y * 1.5


def _look_at_memory(net: Net) -> None:
    net.between = lambda y: y if y.stride(1) != 1 else y.flip(1)


def _view_flat(net: Net) -> None:
    net.between = lambda y: y.view(len(y), -1).view(y.shape)


def _train_on(net: Net) -> None:
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(1.3)


def _new_weight(net: Net) -> None:
    net.second.weight = nn.Parameter(net.second.weight.detach() * 2)


def _new_data(net: Net) -> None:
    net.second.weight.data = net.second.weight.detach() * 2


def _hook(net: Net) -> None:
    net.first.register_forward_hook(lambda _m, _a, out: out * 2)


@pytest.mark.parametrize(
    "change",
    [_swap_norm, _drop_norm, _read_between, _look_at_memory, _view_flat, _train_on, _new_weight, _new_data, _hook],
)
def test_a_model_changed_between_calls_is_explained_as_it_is(change: Callable[[Net], None]) -> None:
    net = Net()
    close(explain(net), by_hand(net))
    change(net)
    for _ in range(3):
        close(explain(net), by_hand(net))


def test_a_batch_norm_put_into_training_mode_counts() -> None:
    net = Net()
    explain(net)
    net.norm.train()
    got = IntegratedGradients(net).attribute(image(), target=1, n_steps=STEPS)
    assert not torch.allclose(got, explain(Net()), rtol=1e-3)


def test_other_shapes_and_places_are_learnt_anew() -> None:
    net = Net()
    explain(net)
    net.rows.clear()
    LayerConductance(net, net.first).attribute(image(), target=1, n_steps=STEPS)
    assert net.rows[0] == 1
    net.rows.clear()
    IntegratedGradients(net).attribute(torch.randn(1, 3, SIDE + 1, SIDE), target=1, n_steps=STEPS)
    assert net.rows[0] == 1


def test_the_trial_leaves_the_random_stream_alone() -> None:
    net = Net().train()
    states: list[Tensor] = []
    for _ in range(2):
        torch.manual_seed(5)
        explain(net)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


def test_what_autocast_changes_is_neither_recalled_nor_kept() -> None:
    net, fresh = Net(), Net()
    explain(net)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(explain(net), explain(fresh))
    kinds: list[type] = []
    fresh.norm.register_forward_pre_hook(lambda _m, args: kinds.append(type(args[0])))
    explain(fresh)
    assert Pending in kinds


def test_there_is_no_trial_where_statistics_are_kept() -> None:
    net = Net()
    net.norm.train()
    explain(net)
    assert 1 not in net.rows
    assert int(net.norm.num_batches_tracked) == len(net.rows)  # type: ignore[arg-type]


def test_nothing_keeps_a_model_alive() -> None:
    net = Net()
    explain(net)
    gone = weakref.ref(net), weakref.ref(net.first.weight)
    assert net in recollection._TRACES
    del net
    gc.collect()
    assert gone[0]() is None
    assert gone[1]() is None


def test_only_so_many_shapes_are_remembered() -> None:
    net = Net()
    for more in range(recollection.MOST + 4):
        IntegratedGradients(net).attribute(torch.randn(1, 3, SIDE + more, SIDE), target=1, n_steps=16)
    assert len(recollection._TRACES[net]) <= recollection.MOST
