"""Calls, targets, repeats and pieces; expected values are those of upstream 0.9.0."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.futures import Future

from captum.compatibility import batching, expansion, running
from captum.compatibility.expansion import ExpansionTypes
from captum.errors import BaselineError, CaptumWarning, InputError, LayerError, TargetError

A = torch.arange(4.0).reshape(2, 2)
B = torch.ones(2, 1)
CUBE = torch.arange(12.0).reshape(2, 3, 2)
ROWS, EACH = ExpansionTypes.repeat, ExpansionTypes.repeat_interleave


def test_calls() -> None:
    def double(x: Tensor, *rest: object) -> Tensor:
        return x * 2

    assert torch.equal(running.run_forward(double, A), 2 * A)
    assert running.run_forward(double, (A,), 1).tolist() == [2, 6]
    assert running.run_forward(double, [A], target=[0, 1]).tolist() == [0, 6]
    assert torch.equal(running.run_forward(lambda x, y, z: x + y + z, (A, B), None, 1), A + 2)
    assert running.run_forward(lambda: A, B, 0).tolist() == [0, 2]
    assert running.run_forward(lambda x: 3, A) == 3
    assert running.run_forward(lambda x: (x,), A) == (A,)
    with pytest.raises(IndexError):
        running.run_forward(double, A, 5)
    with pytest.raises(TargetError, match="no rows"):
        running.run_forward(lambda x: x.sum(), A, 0)


def test_calls_that_answer_later() -> None:
    answer: Future[Tensor] = Future()
    later = running.run_forward(lambda x: answer, A, 1)
    assert not later.done()
    twice = running.run_forward(lambda x: later, A)
    answer.set_result(A)
    assert later.wait().tolist() == [1, 3]
    assert twice.wait().tolist() == [1, 3]
    assert running.run_forward(running.construct_future_forward(lambda x: x + 1), A, 0).wait().tolist() == [1, 3]


@pytest.mark.parametrize(("target", "expected"), [
    (0, [0, 2]), (-1, [1, 3]), ((0,), [0, 2]), (torch.tensor(1), [1, 3]), (torch.tensor([1]), [1, 3]),
    (torch.tensor([0, 1]), [0, 3]), ([0, 1], [0, 3]), ([(0,), (1,)], [0, 3]), (None, A.tolist()), (np.int64(1), [1, 3]),
])  # fmt: skip
def test_targets(target: object, expected: list) -> None:
    assert running.select_targets(A, target).tolist() == expected


@pytest.mark.parametrize(("target", "expected"), [
    ((1, 1), [3, 9]), ([(0, 1), (2, 0)], [1, 10]), ((slice(0, 2), 1), [[1, 3], [7, 9]]), (2, [[4, 5], [10, 11]]),
    ([(0,), (1,)], [[0, 1], [8, 9]]),
])  # fmt: skip
def test_targets_of_more_dims(target: object, expected: list) -> None:
    assert running.select_targets(CUBE, target).tolist() == expected


@pytest.mark.parametrize("target", [[0], [0, 1, 1], "a", (0, 0), 1.5, True, [0.5, 1], torch.tensor([1.0, 0.0])])
def test_targets_that_do_not_fit(target: object) -> None:
    with pytest.raises(TargetError):
        running.select_targets(A, target)


def test_target_lengths() -> None:
    for fits in (0, (0, 1), [0, 1], torch.tensor([0, 1]), torch.tensor([0])):
        running.validate_target(2, fits)
    for wrong in ([0], torch.tensor([0, 1, 2])):
        with pytest.raises(TargetError, match="one target per row, 2"):
            running.validate_target(2, wrong)


def test_neurons_and_modules() -> None:
    assert running.verify_select_neuron((CUBE,), (0, 1)).tolist() == [1, 7]
    assert running.verify_select_neuron((CUBE,), (slice(None), 1)).tolist() == [9, 27]
    assert running.verify_select_neuron((CUBE, CUBE), lambda v: v[1][:, 0, 0]).tolist() == [0, 6]
    with pytest.raises(LayerError, match="2 tensors"):
        running.verify_select_neuron((CUBE, CUBE), (0, 1))
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    assert running.get_module_from_name(net, "0.weight") is net[0].weight
    assert running.extract_device(nn.ReLU(), A.to("meta"), None).type == "meta"
    with pytest.raises(RuntimeError, match="ReLU"):
        running.extract_device(nn.ReLU(), None, None)
    assert running.sort_key_list([torch.device("cuda:1"), torch.device("cuda:0")], [0, 1])[0].index == 0


def test_repeated_constants() -> None:
    scalar = torch.tensor(5.0)
    rows = expansion.expand_additional_forward_args((A, 3, scalar), 2)
    assert torch.equal(rows[0], torch.cat([A, A]))
    assert rows[1:] == (3, scalar)
    assert torch.equal(expansion.expand_additional_forward_args((A,), 2, EACH)[0], A[[0, 0, 1, 1]])
    assert expansion.expand_additional_forward_args(None, 2) is None
    with pytest.raises(NotImplementedError, match="repeat_interleave"):
        expansion.expand_additional_forward_args((A,), 2, "x")


@pytest.mark.parametrize(("target", "rows", "each"), [
    (None, None, None), (3, 3, 3), ((1, 2), (1, 2), (1, 2)), ([1, 2], [1, 2, 1, 2], [1, 1, 2, 2]),
    ([5], [5, 5], [5, 5]),
    ([(1, 2), (3, 4)], [(1, 2), (3, 4), (1, 2), (3, 4)], [(1, 2), (1, 2), (3, 4), (3, 4)]),
])  # fmt: skip
def test_repeated_targets(target: object, rows: object, each: object) -> None:
    assert expansion.expand_target(target, 2, ROWS) == rows
    assert expansion.expand_target(target, 2, EACH) == each


def test_repeated_target_tensors_and_masks() -> None:
    classes = torch.tensor([1, 2])
    assert expansion.expand_target(classes, 2).tolist() == [1, 2, 1, 2]
    assert expansion.expand_target(classes, 2, EACH).tolist() == [1, 1, 2, 2]
    assert expansion.expand_target(classes[:1], 2).tolist() == [1]
    assert expansion.expand_feature_mask(torch.tensor([[0, 1]]), 2).tolist() == [[0, 1]]
    assert (
        expansion.expand_feature_mask((torch.tensor([[0, 1], [1, 1]]),), 2)[0].tolist() == [[0, 1]] * 2 + [[1, 1]] * 2
    )


def test_arguments_repeated_in_place() -> None:
    for given in ((A, 3), A):
        kwargs = {"additional_forward_args": given}
        expansion.expand_and_update_additional_forward_args(2, kwargs)
        assert torch.equal(kwargs["additional_forward_args"][0], A[[0, 0, 1, 1]])
    kwargs = {"target": [1, 2]}
    expansion.expand_and_update_target(2, kwargs)
    assert kwargs == {"target": [1, 1, 2, 2]}
    kwargs = {}
    for update in (expansion.expand_and_update_additional_forward_args, expansion.expand_and_update_target):
        update(2, kwargs)
    expansion.expand_and_update_baselines((A,), 2, kwargs)
    assert kwargs == {}


def test_baselines_repeated_or_drawn() -> None:
    def updated(baselines: object, **options: bool) -> object:
        kwargs = {"baselines": baselines}
        expansion.expand_and_update_baselines((A,), 2, kwargs, **options)
        return kwargs["baselines"][0]

    assert torch.equal(updated(A), A[[0, 0, 1, 1]])
    assert torch.equal(updated(A[:1]), A[:1])
    assert updated(1.5) == 1.5
    with pytest.raises(BaselineError):
        updated(torch.ones(3, 2))
    pool = torch.arange(6.0).reshape(3, 2)
    np.random.seed(0)  # noqa: NPY002
    drawn = updated(pool, draw_baseline_from_distrib=True)
    assert torch.equal(drawn, pool[[0, 1, 0, 1]])  # the draws that numpy's stream gives after this seed


@pytest.mark.parametrize(("arg", "expected"), [
    ([1, 2], [[1], [2]]), (5, [5, 5]), ((1, 2), [(1, 2), (1, 2)]), ("ab", ["ab", "ab"]), (None, [None, None]),
    ([(1, 2), (3, 4)], [[(1, 2)], [(3, 4)]]), ([1, 2, 3], [[1, 2, 3]] * 2), (([1, 2], 5), [([1], 5), ([2], 5)]),
])  # fmt: skip
def test_one_example_at_a_time(arg: object, expected: list) -> None:
    assert [example for (example,) in batching.batch_example_iterator(2, arg)] == expected


def test_one_example_of_tensors_at_a_time() -> None:
    (first, both, scalar), (second, _, _) = batching.batch_example_iterator(2, A, (A, B), torch.tensor(3))
    assert torch.equal(torch.cat([first, second]), A)
    assert torch.equal(both[0], A[:1])
    assert torch.equal(both[1], B[:1])
    assert scalar.item() == 3
    assert list(batching.batch_example_iterator(0, A)) == []


class Path:
    """A method that integrates the square of the node and keeps what it was called with."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, list[float]]] = []

    def _attribute(self, method: str, n_steps: int, step_sizes_and_alphas: tuple) -> Tensor:
        weights, nodes = step_sizes_and_alphas
        self.calls.append((n_steps, nodes))
        return sum(w * a**2 for w, a in zip(weights, nodes, strict=True)) * torch.ones(2)


@pytest.mark.parametrize("rows", [2, 6, 100])
def test_paths_in_pieces(rows: int) -> None:
    path = Path()
    result = batching.batch_attribution(path, 2, rows, 10, method="gausslegendre")
    torch.testing.assert_close(result, torch.full((2,), 1 / 3))
    assert all(steps == len(nodes) <= max(1, rows // 2) for steps, nodes in path.calls)
    assert len([node for _, nodes in path.calls for node in nodes]) == 10


@pytest.mark.parametrize(("rows", "steps", "pieces"), [
    (6, 10, [(0, 3), (2, 5), (4, 7), (6, 9), (8, 10)]), (4, 4, [(0, 2), (1, 3), (2, 4)]), (100, 4, [(0, 4)]),
    (4, 2, [(0, 2)]),
])  # fmt: skip
def test_paths_in_pieces_that_share_their_ends(rows: int, steps: int, pieces: list) -> None:
    path = Path()
    batching.batch_attribution(path, 2, rows, steps, include_endpoint=True, method="riemann_trapezoid")
    nodes = [i / (steps - 1) for i in range(steps)]
    expected = [(b - a - 1, pytest.approx(nodes[a:b])) for a, b in pieces]
    assert path.calls == expected


@pytest.mark.parametrize(("shared", "least"), [(False, 2), (True, 4)])
def test_pieces_that_are_too_small(shared: bool, least: int) -> None:
    path = Path()
    with pytest.warns(CaptumWarning, match=f"{least} is used"):
        batching.batch_attribution(path, 2, 1, 4, include_endpoint=shared, method="riemann_left")
    assert len(path.calls) == (3 if shared else 4)


def test_tuples_of_sums() -> None:
    class Pair(Path):
        def _attribute(self, **kwargs: object) -> tuple[Tensor, Tensor]:
            return A.clone().requires_grad_(), B

    first, second = batching.batch_attribution(Pair(), 2, 6, 7, method="riemann_left")
    assert torch.equal(first, 3 * A)
    assert torch.equal(second, 3 * B)
    assert not first.requires_grad


def test_rows_in_pieces() -> None:
    pieces = list(batching.batched_generator((A, B), (3, A), [0, 1], 1))
    assert [(len(x), x[0].tolist(), c[0], c[1].tolist(), t) for x, c, t in pieces] == [
        (2, [[0, 1]], 3, [[0, 1]], [0]),
        (2, [[2, 3]], 3, [[2, 3]], [1]),
    ]
    assert [t for _, _, t in batching.batched_generator(A, None, 3)] == [3]

    def double(inputs: tuple, additional_forward_args: tuple, target_ind: int, factor: int) -> tuple:
        return (inputs[0] * factor,)

    assert torch.equal(batching.batched_operator(double, A, 3, 0, 1, factor=2)[0], 2 * A)
    assert batching.tuple_splice_range((A, 3, None, torch.tensor(1)), 0, 1)[1:] == (3, None, torch.tensor(1))
    with pytest.raises(InputError, match="at least 1"):
        list(batching.batched_generator(A, internal_batch_size=0))


@pytest.mark.parametrize(("limit", "counts"), [(None, [5]), (2, [1] * 5), (4, [2, 2, 1]), (5, [2, 2, 1]), (100, [5])])
def test_metrics_in_pieces(limit: int | None, counts: list[int]) -> None:
    seen: list[int] = []

    def metric(n: int) -> Tensor:
        seen.append(n)
        return torch.tensor([n, 2.0 * n])

    total = batching.divide_and_aggregate_metrics((A,), 5, metric, max_examples_per_batch=limit)
    assert seen == counts
    assert total.tolist() == [5, 10]
    largest = batching.divide_and_aggregate_metrics((A,), 5, metric, torch.max, limit)
    assert largest.tolist() == [max(counts), 2 * max(counts)]


def test_metrics_with_too_small_pieces() -> None:
    with pytest.warns(CaptumWarning, match="2 is used"):
        batching.divide_and_aggregate_metrics((A,), 3, torch.tensor, max_examples_per_batch=1)
