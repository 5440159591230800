"""Long work: memory that runs out, bars, cancelling, steps that choose themselves, and draws too many to keep."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import CaptumWarning, InputError
from tests.cases import CASES, Case, keeping
from tests.models import Staged, seeded
from tests.oracles.loops import chain
from tests.subjects import drawn, smooth_body, subject


def _expands(case: Case) -> bool:
    """Whether a call evaluates more rows than it gets; a method with one evaluation per row only splits the batch."""
    return case.chunk is not None and not (case.cls.endswith("DeepLift") and case.baselines == "point")


class Small(nn.Module):
    """A model that has memory for a few rows only."""

    def __init__(self, model: nn.Module, rows: int) -> None:
        super().__init__()
        self.model = model
        self.rows = rows
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.rows:
            message = "out of memory: tried to allocate too much"
            raise torch.OutOfMemoryError(message)
        return self.model(x)


@pytest.mark.parametrize("limit", [None, 64])
@pytest.mark.parametrize("case", keeping("chunks", where=_expands))
def test_when_memory_runs_out_smaller_chunks_are_tried(case: Case, limit: int | None) -> None:
    whole = subject("mlp")
    want = case.run(whole)
    small = Small(whole.model, 5)
    values = case.run(whole.but(model=small, layer="model.act1"), **{case.chunk: limit})
    torch.testing.assert_close(values, want)
    assert max(small.seen) > 5, "nothing ever ran out"
    assert max(small.seen[-3:]) <= 5


def test_a_row_that_does_not_fit_is_the_users_error() -> None:
    """Nothing smaller than one row can be tried: the error of the device comes out."""
    with pytest.raises(torch.OutOfMemoryError):
        attr.IntegratedGradients(Small(subject("mlp").model, 0)).attribute(drawn(2, 4), target=1)


@pytest.mark.parametrize("case", keeping("chunks", where=lambda case: case.takes("show_progress")))
def test_a_bar_is_drawn_on_request_only(case: Case, capfd: pytest.CaptureFixture[str]) -> None:
    whole = subject(case.home)
    case.run(whole)
    assert capfd.readouterr() == ("", "")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm tells when notebook widgets are missing
        case.run(whole, show_progress=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "100%" in err
    inner = CASES[case.wraps].cls if case.wraps else case.cls
    assert getattr(attr, inner).get_name() in err


def test_every_method_that_expands_has_a_bar() -> None:
    bars = ("show_progress", "nt_show_progress")
    assert [case.name for case in CASES.values() if case.chunk and not any(map(case.takes, bars))] == []


@pytest.mark.parametrize("name", ["IntegratedGradients", "LayerIntegratedGradients", "NeuronIntegratedGradients"])
def test_memory_does_not_grow_with_steps(name: str) -> None:
    """The largest chunk is planned from the size of a row, not from the number of steps."""
    case, seen = CASES[name], []
    body = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 2)))
    model = Staged(body)
    whole = subject("mlp").but(model=model, inputs=drawn(2, 3, 64, 64), target=1, layer="first", baselines=None)
    if case.place == "neuron":
        whole = whole.but(layer="last", neuron=1)
    handle = model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    largest = []
    for steps in (300, 3000):
        seen.clear()
        case.run(whole, n_steps=steps, method="riemann_middle")
        largest.append(max(seen))
    handle.remove()
    assert largest[1] <= max(largest[0], 600)
    assert largest[1] < 2 * 3000


@pytest.mark.parametrize("name", ["IntegratedGradients", "LayerIntegratedGradients", "NeuronIntegratedGradients"])
@pytest.mark.parametrize("tol", [1e-2, 1e-6])
def test_steps_double_until_the_error_is_small(name: str, tol: float) -> None:
    """``n_steps="auto"``: the relative completeness error ends below ``tol``, with no more work than it takes."""
    case = CASES[name]
    net = chain()
    whole = subject("mlp").but(model=Staged(net).double(), inputs=drawn(3, 3, dtype=torch.float64) * 4, target=1,
                               layer="last" if case.place == "neuron" else "first", neuron=1,
                               baselines=drawn(1, 3, seed=2, dtype=torch.float64))  # fmt: skip
    calls = []
    handle = whole.model.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    values = case.run(whole, n_steps="auto", tol=tol)
    rows = sum(calls)
    calls.clear()
    handle.remove()
    with torch.no_grad():
        change = (whole.model(whole.inputs) - whole.model(whole.baselines))[:, 1]
    error = (values.sum(1) - change).abs() / change.abs()
    assert (error <= tol).all()
    assert rows < 3 * 2000
    finest = case.run(whole, n_steps=400)
    assert ((values - finest).abs() <= 20 * tol * finest.abs().max()).all()


def test_steps_that_cannot_get_there_are_told() -> None:
    """A jump has no gradient: no number of steps is complete, and the user must know."""
    step = lambda x: (x > 0.3).to(x.dtype).sum(1) + x.sum(1)  # noqa: E731
    with pytest.warns(CaptumWarning, match=r"tol|complete"):
        attr.IntegratedGradients(step).attribute(torch.ones(1, 2), n_steps="auto", tol=1e-3)


def test_an_auto_delta_is_reported() -> None:
    body = smooth_body()
    x = drawn(2, 4, dtype=torch.float64)
    values, delta = attr.IntegratedGradients(body).attribute(
        x, target=1, n_steps="auto", tol=1e-4, return_convergence_delta=True
    )
    with torch.no_grad():
        change = (body(x) - body(torch.zeros_like(x)))[:, 1]
    torch.testing.assert_close(delta, values.sum(1) - change)


@pytest.mark.parametrize("side", [223, 224])
def test_draws_too_many_to_keep_are_the_same_draws(side: int) -> None:
    """Six million normals are drawn piece by piece; values and streams are those of one draw of all."""
    x, weight = drawn(1, 3, side, side), drawn(3, side, side, seed=2)
    samples, stdev = 40, 0.5

    def forward(v: Tensor) -> Tensor:
        return (v.square() * weight).flatten(1).sum(1)

    torch.manual_seed(5)
    noise = torch.normal(0, torch.full((samples, 3, side, side), stdev))
    after = torch.rand(())
    want = 2 * weight * (x + noise.mean(0))
    torch.manual_seed(5)
    values = attr.NoiseTunnel(attr.Saliency(forward)).attribute(x, nt_samples=samples, stdevs=stdev, abs=False)
    torch.testing.assert_close(values, want, rtol=1e-4, atol=1e-4)
    assert torch.equal(torch.rand(()), after)


def test_two_noisy_inputs_are_drawn_one_after_the_other() -> None:
    a, b = drawn(2, 3), drawn(2, 5, seed=2)
    torch.manual_seed(5)
    first = torch.normal(0, torch.full((6, 3), 0.5)).reshape(2, 3, 3).mean(1)
    second = torch.normal(0, torch.full((6, 5), 0.5)).reshape(2, 3, 5).mean(1)
    method = attr.NoiseTunnel(attr.Saliency(lambda x, y: x.square().sum(1) + y.square().sum(1)))
    for size in (None, 1, 2):
        torch.manual_seed(5)
        values = method.attribute((a, b), nt_samples=3, nt_samples_batch_size=size, stdevs=0.5, abs=False)
        torch.testing.assert_close(values, (2 * (a + first), 2 * (b + second)))


@pytest.mark.parametrize("case", keeping("chunks", random=True, where=_expands))
def test_a_generator_moves_alike_for_every_chunk_size(case: Case) -> None:
    whole, after = subject("mlp"), set()
    for size in (None, 1, 3):
        generator = torch.Generator().manual_seed(2)
        case.call(case.build(whole), whole, generator=generator, **{case.chunk: size})
        after.add(float(torch.rand((), generator=generator)))
    assert len(after) == 1


def test_a_replaced_gradient_function_is_used() -> None:
    """Contract 1.9: ``gradient_func(forward_fn, inputs, target_ind, additional_forward_args)`` gives the gradients."""
    whole = subject("mlp")
    method = attr.IntegratedGradients(whole.model)
    seen = []

    def twice(forward: object, inputs: tuple[Tensor, ...], target: Tensor, extra: object = None) -> tuple[Tensor, ...]:
        seen.append((len(inputs[0]), len(target), extra))
        return tuple(2 * torch.ones_like(each) for each in inputs)

    method.gradient_func = twice
    values = method.attribute(whole.inputs, target=[0, 1, 2], n_steps=6)
    torch.testing.assert_close(values, 2 * whole.inputs)
    assert all(rows == count for rows, count, _ in seen)


def test_the_completeness_delta_can_be_asked_for() -> None:
    """Contract 1.9: sum of values less the change of the score; outputs of a row are summed; scalars are points."""
    whole = subject("pair").but(arguments=None)
    method = attr.IntegratedGradients(whole.model)
    values = tuple(torch.randn_like(each) for each in whole.inputs)
    a, b = whole.inputs
    with torch.no_grad():
        change = whole.model(a, b) - whole.model(torch.zeros_like(a), torch.full_like(b, 0.5))
    total = values[0].sum(1) + values[1].sum(1)
    torch.testing.assert_close(
        method.compute_convergence_delta(values, (0, 0.5), whole.inputs, target=2), total - change[:, 2]
    )
    torch.testing.assert_close(method.compute_convergence_delta(values, (0, 0.5), whole.inputs), total - change.sum(1))
    one = tuple(each[:1] for each in values)
    with pytest.raises(InputError, match="batch"):
        method.compute_convergence_delta(one, None, whole.inputs, target=2)
