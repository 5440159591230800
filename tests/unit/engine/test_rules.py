"""The rule engine: what it sees, what it refuses, and what it leaves behind."""

from __future__ import annotations

import contextlib
import copy
import gc
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, DeepLift, GuidedBackprop, rules
from captum.errors import CaptumWarning, InputError, UnknownOperatorError


class Calls(nn.Module):
    """A model made of one function."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x).flatten(1).sum(1)


class Inner(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.i1(x)


def _nested() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), Inner()), nn.Linear(3, 1))


X, X0 = torch.tensor([[0.5, -1.0, 2.0]]), torch.tensor([[-0.3, 0.4, 1.0]])


@pytest.mark.parametrize("method", [DeepLift, LRP])
def test_an_unknown_operator_is_named_with_its_module_and_the_remedy(method) -> None:
    with pytest.raises(UnknownOperatorError, match=r"i1.*module '1\.1' \(Inner\).*captum\.attr\.rules\.register"):
        method(_nested()).attribute(X)


def test_unknown_operators_may_be_taken_for_linear() -> None:
    model = Calls(torch.special.i1)
    with pytest.warns(CaptumWarning) as caught:
        DeepLift(model, on_unknown="warn").attribute(X, X0)
    assert "i1" in str(caught[0].message)
    assert "miss the change of the score" in str(caught[-1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        multipliers = DeepLift(model, multiply_by_inputs=False, on_unknown="linear").attribute(X, X0)
    leaf = X.clone().requires_grad_()
    torch.testing.assert_close(multipliers, torch.autograd.grad(model(leaf).sum(), leaf)[0])


def test_an_unknown_operator_that_torch_cannot_differentiate_is_refused() -> None:
    with pytest.raises(UnknownOperatorError, match="bessel_j0"):
        DeepLift(Calls(lambda x: x + torch.special.bessel_j0(x))).attribute(X, X0)


def test_a_registered_operator_is_known() -> None:
    rules.register(torch.special.i1, "elementwise", smooth=True)
    try:
        _, delta = DeepLift(_nested()).attribute(X, X0, return_convergence_delta=True)
        assert delta.abs() < 1e-6
        with pytest.raises(InputError, match="already"):
            rules.register(torch.special.i1, "linear")
    finally:
        rules.forget(torch.special.i1)
    with pytest.raises(UnknownOperatorError):
        DeepLift(_nested()).attribute(X)
    with pytest.raises(InputError, match="built-in"):
        rules.forget(torch.relu)


class Cube(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        return 3 * ctx.saved_tensors[0] ** 2 * grad


def test_an_autograd_function_is_refused_until_it_is_visible() -> None:
    with pytest.raises(UnknownOperatorError, match="CubeBackward"):
        DeepLift(Calls(Cube.apply)).attribute(X, X0)
    with pytest.raises(UnknownOperatorError, match="CubeBackward"):
        DeepLift(Calls(lambda x: Cube.apply(x) * 2)).attribute(X, X0)

    @rules.visible
    def cube(x: Tensor) -> Tensor:
        return Cube.apply(x)

    rules.register(cube, "elementwise", smooth=True)
    try:
        torch.testing.assert_close(DeepLift(Calls(cube)).attribute(X, X0), X**3 - X0**3)
    finally:
        rules.forget(cube)


def test_a_registered_composite_is_unfolded() -> None:
    @rules.visible
    def swish(x: Tensor) -> Tensor:
        return Cube.apply(x)

    rules.register(swish, "composite", decompose=lambda x: x * x * x)
    try:
        _, delta = DeepLift(Calls(swish)).attribute(X, X0, return_convergence_delta=True)
        assert delta.abs() < 1e-6
    finally:
        rules.forget(swish)


def test_scripted_and_exported_models_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(model)
        exported = torch.export.export(model, (X,)).module()
    for hidden in (scripted, nn.Sequential(scripted), exported):
        for method in (DeepLift, LRP, GuidedBackprop):
            with pytest.raises(UnknownOperatorError, match="cannot be seen"):
                method(hidden)


def test_a_scripted_function_in_the_middle_is_noticed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(lambda x: torch.relu(x) ** 2, X)
    with pytest.raises(UnknownOperatorError, match="outside torch's functions"):
        DeepLift(Calls(lambda x: scripted(x * 2) + 1)).attribute(X, X0)


def test_a_compiled_model_gives_the_same_also_after_another_batch_size() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    compiled = torch.compile(model, backend="eager")
    compiled(X)
    for x in (X, X.repeat(3, 1) * 2):
        torch.testing.assert_close(
            DeepLift(compiled).attribute(x, X0, target=0), DeepLift(model).attribute(x, X0, target=0)
        )


def test_control_flow_that_the_baseline_changes_is_refused() -> None:
    model = Calls(lambda x: x * 2 if bool(x.sum() > 0.9) else x * 3)
    assert DeepLift(model).attribute(X, X * 0.9).shape == X.shape
    with pytest.raises(UnknownOperatorError, match="Python code reads a value"):
        DeepLift(model).attribute(X, -X)


class Fails(nn.Module):
    """Raises at the ``number``-th torch operator that it calls."""

    def __init__(self, number: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv1d(1, 2, 2), nn.BatchNorm1d(2)
        self.relu, self.out = nn.ReLU(inplace=True), nn.Linear(2, 2)
        self.number = number
        self.kept: list[Tensor] = []

    def step(self, value: Tensor) -> Tensor:
        self.kept.append(value)
        if len(self.kept) > self.number:
            message = "this model fails"
            raise KeyError(message)
        return value

    def forward(self, x: Tensor) -> Tensor:
        self.kept.clear()
        x = self.step(x.unsqueeze(1))
        x = self.step(self.conv(x))
        x = self.step(self.norm(x))
        x = self.step(self.relu(x))
        x = self.step(F.max_pool1d(x, 2))
        x = self.step(x.squeeze(2))
        x = self.step(F.softmax(x, 1) * x)
        return self.step(self.out(x))


@pytest.mark.parametrize("method", [DeepLift, LRP, GuidedBackprop])
@pytest.mark.parametrize("number", range(9))
def test_nothing_is_left_behind_wherever_the_model_fails(method, number: int) -> None:
    model = Fails(number).eval()
    before = copy.deepcopy(model.state_dict())
    keys = [set(m.__dict__) for m in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    x = X.clone()
    if number < 8:
        with pytest.raises(KeyError):
            method(model).attribute(x, target=0)
    else:
        method(model).attribute(x, target=0)
    assert not x.requires_grad
    assert x.__dict__ == {}
    assert all(t.__dict__ == {} for t in model.kept)
    assert all(p.grad is None and p.__dict__ == {} for p in model.parameters())
    assert [set(m.__dict__) for m in model.modules()] == keys
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()] == hooks
    assert not torch.nn.modules.module._global_forward_hooks
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert torch.overrides._get_current_function_mode_stack() == []
    torch.testing.assert_close(model.state_dict(), before)


def test_nothing_piles_up_over_calls() -> None:

    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(inplace=True), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2))

    def count() -> int:
        gc.collect()
        return sum(issubclass(type(o), Tensor) for o in gc.get_objects())

    for method in (DeepLift(model), LRP(model), GuidedBackprop(model)):
        method.attribute(X, target=0)
        before = count()
        gc.disable()
        try:
            for _ in range(5):
                method.attribute(X, target=0)
        finally:
            gc.enable()
        assert count() <= before + 2


def test_training_mode_warns() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1))
    with pytest.warns(CaptumWarning, match=r"Module '1' is in training mode"):
        DeepLift(model).attribute(X)
    _, delta = DeepLift(model.eval()).attribute(X, return_convergence_delta=True)
    assert delta.abs() < 1e-6


class OfPart(nn.Module):
    """A part that is called on a sequence of one step."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, x: Tensor) -> Tensor:
        steps = x[:, None]
        out = self.part(steps, steps, steps) if isinstance(self.part, nn.MultiheadAttention) else self.part(steps)
        return (out[0] if isinstance(out, tuple) else out).flatten(1).sum(1)


@pytest.mark.parametrize("method", [DeepLift, LRP])
@pytest.mark.parametrize(
    ("part", "draws"),
    [(nn.LSTM(3, 3, 2, dropout=0.5, batch_first=True), True), (nn.LSTM(3, 3, batch_first=True), False),
     (nn.MultiheadAttention(3, 1, dropout=0.5, batch_first=True), True), (nn.Dropout(0.0), False)],
    ids=["lstm", "lstm without dropout", "attention", "dropout of nothing"],
)  # fmt: skip
def test_training_mode_warns_of_dropout_inside_of_layers(part: nn.Module, draws: bool, method) -> None:
    model = OfPart(part).train()
    with pytest.warns(CaptumWarning, match="training mode") if draws else contextlib.nullcontext():
        method(model).attribute(X)


@pytest.mark.parametrize("method", [DeepLift, LRP, GuidedBackprop])
def test_integers_that_no_embedding_reads_are_named(method) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    for kind in (RuntimeError, InputError):
        with pytest.raises(kind, match=r"no embedding reads them: .*inputs\.float\(\)"):
            method(model).attribute(torch.ones(2, 3, dtype=torch.long))


@pytest.mark.parametrize("method", [DeepLift, LRP])
def test_ways_to_treat_unknown_operators_are_checked(method) -> None:
    with pytest.raises(InputError, match="on_unknown to be 'raise', 'warn' or 'linear', got 'ignore'"):
        method(nn.Linear(3, 1), on_unknown="ignore").attribute(X)


def test_dropout_in_training_shares_its_mask_with_the_baseline() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(3, 1, bias=False)).train()
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = DeepLift(model, multiply_by_inputs=False).attribute(X, X0)
    factors = values / model[1].weight
    assert all(min(abs(f), abs(f - 2)) < 1e-5 for f in factors.flatten().tolist())


def test_the_public_table_lists_kinds() -> None:
    table = rules.operators()
    assert table["conv2d"].kind is rules.Kind.BILINEAR
    assert table["lstm"].kind is rules.Kind.COMPOSITE
    assert table["gelu"].smooth
    assert list(table) == sorted(table)
    with pytest.raises(InputError, match="decompose"):
        rules.register(torch.special.i1e, "composite")
    with pytest.raises(InputError, match="kind"):
        rules.register(torch.special.i1e, "odd")
