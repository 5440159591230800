"""Every form of ``target``: which score is explained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum import attr
from captum.attr.targets import Labels, Region, Step
from captum.errors import InputError, TargetError
from tests.cases import Case, keeping
from tests.models import model_named
from tests.subjects import drawn, subject

MLP = model_named("mlp")
X = drawn(3, 4)
SEGMENTER = model_named("segmenter")
IMAGE = drawn(2, 2, 5, 4)
TAGGER = model_named("tagger")
SEQUENCE = drawn(2, 5, 2)


def saliency(model: object, inputs: Tensor, target: object) -> Tensor:
    """Signed gradients by the library."""
    return attr.Saliency(model).attribute(inputs, target, abs=False)


def by_hand(model: torch.nn.Module, inputs: Tensor, read: object) -> Tensor:
    """Signed gradients of ``read(model(x))``, one number per row."""
    leaf = inputs.clone().requires_grad_(True)
    (found,) = torch.autograd.grad(read(model(leaf)).sum(), leaf)
    return found


def test_one_class_for_all_rows() -> None:
    want = by_hand(MLP, X, lambda out: out[:, 2])
    forms = [
        2, -1, (2,), (-1,), np.int64(2), np.int32(-1), np.uint8(2), torch.tensor(2), torch.tensor([2]),
        torch.tensor(2, dtype=torch.int32), [2, 2, 2], torch.tensor([2, 2, 2]), [(2,)] * 3, np.array([2, 2, 2]),
        [np.int64(2)] * 3, [torch.tensor(2)] * 3, np.array(2), lambda out: out[:, 2], Labels([2]),
    ]  # fmt: skip
    for target in forms:
        torch.testing.assert_close(saliency(MLP, X, target), want)


def test_one_class_per_row() -> None:
    index = torch.tensor([2, 0, 1])
    want = by_hand(MLP, X, lambda out: out.gather(1, index[:, None])[:, 0])
    forms = [
        [2, 0, 1], index, index.int(), [(2,), (0,), (1,)], np.array([2, 0, 1]), [-1, 0, 1], torch.tensor([-1, -3, 1]),
        lambda out: out.gather(1, index[:, None])[:, 0],
    ]  # fmt: skip
    for target in forms:
        torch.testing.assert_close(saliency(MLP, X, target), want)


def test_argmax_is_the_predicted_class_at_the_inputs() -> None:
    spread = drawn(3, 4, seed=14) * 20
    with torch.no_grad():
        best = MLP(spread).argmax(1)
    assert len(set(best.tolist())) > 1
    torch.testing.assert_close(saliency(MLP, spread, "argmax"), saliency(MLP, spread, best))


@pytest.mark.parametrize("case", keeping("structure", where=lambda case: case.targeted))
def test_argmax_is_fixed_before_the_path(case: Case) -> None:
    """The class predicted at the inputs is explained all along, not the one predicted on the way."""
    whole = subject("cnn")
    with torch.no_grad():
        best = whole.model(whole.inputs).argmax(1)
    torch.testing.assert_close(case.run(whole.but(target="argmax")), case.run(whole.but(target=best)))


@pytest.mark.parametrize("form", ["int", "list", "tensor", "tuples", "function", "labels"])
@pytest.mark.parametrize("case", keeping("structure", spatial=False, where=lambda case: case.targeted))
def test_every_algorithm_takes_every_form(case: Case, form: str) -> None:
    whole = subject("residual")
    forms = {
        "int": (1, 1), "list": ([1, 1, 1], 1), "tensor": (torch.tensor([2, 0, 1]), [2, 0, 1]),
        "tuples": ([(2,), (0,), (1,)], [2, 0, 1]), "function": (lambda out: out[:, 1], 1), "labels": (Labels([1]), 1),
    }  # fmt: skip
    target, plain = forms[form]
    torch.testing.assert_close(case.run(whole.but(target=target)), case.run(whole.but(target=plain)))


def test_indices_into_more_dims() -> None:
    want = by_hand(SEGMENTER, IMAGE, lambda out: out[:, 1, 3, 2])
    for target in ((1, 3, 2), [(1, 3, 2), (1, 3, 2)], (1, -2, 2), lambda out: out[:, 1, 3, 2]):
        torch.testing.assert_close(saliency(SEGMENTER, IMAGE, target), want)
    mixed = saliency(SEGMENTER, IMAGE, [(0, 0, 0), (2, 4, 3)])
    torch.testing.assert_close(mixed[:1], saliency(SEGMENTER, IMAGE[:1], (0, 0, 0)))
    torch.testing.assert_close(mixed[1:], saliency(SEGMENTER, IMAGE[1:], (2, 4, 3)))


def test_region_is_a_class_summed_over_a_mask() -> None:
    mask = torch.zeros(5, 4, dtype=torch.bool)
    mask[1:3, 2:] = True
    want = by_hand(SEGMENTER, IMAGE, lambda out: (out[:, 1] * mask).sum((1, 2)))
    torch.testing.assert_close(saliency(SEGMENTER, IMAGE, Region(1, mask)), want)
    everywhere = by_hand(SEGMENTER, IMAGE, lambda out: out[:, 1].sum((1, 2)))
    torch.testing.assert_close(saliency(SEGMENTER, IMAGE, Region(1)), everywhere)
    weights = drawn(2, 5, 4, seed=8)
    per_row = by_hand(SEGMENTER, IMAGE, lambda out: (out[:, 1] * weights).sum((1, 2)))
    torch.testing.assert_close(saliency(SEGMENTER, IMAGE, Region(1, weights)), per_row)


def test_a_region_per_row_follows_its_row_through_every_chunk() -> None:
    weights = drawn(2, 5, 4, seed=8)
    method = attr.IntegratedGradients(SEGMENTER)
    want = method.attribute(
        IMAGE, target=lambda out: (out[:, 1] * weights.repeat(len(out) // 2, 1, 1)).sum((1, 2)), n_steps=1
    )
    for size in (None, 1, 3):
        got = method.attribute(IMAGE, target=Region(1, weights), n_steps=1, internal_batch_size=size)
        torch.testing.assert_close(got, want)
    whole = method.attribute(IMAGE, target=Region(1, weights), n_steps=9)
    for size in (1, 3, 7, 100):
        got = method.attribute(IMAGE, target=Region(1, weights), n_steps=9, internal_batch_size=size)
        torch.testing.assert_close(got, whole)


@pytest.mark.parametrize("size", [None, 1, 2])
def test_a_region_per_row_follows_its_row_through_noise(size: int | None) -> None:
    weights = drawn(2, 5, 4, seed=8)
    method = attr.NoiseTunnel(attr.Saliency(SEGMENTER))
    more = {"nt_samples": 3, "nt_samples_batch_size": size, "abs": False, "seed": 3, "stdevs": 0.3}
    values = method.attribute(IMAGE, target=Region(1, weights), **more)
    repeated = weights.repeat_interleave(3, 0)
    want = method.attribute(
        IMAGE, target=lambda out: (out[:, 1] * repeated).sum((1, 2)), **{**more, "nt_samples_batch_size": 3}
    )
    torch.testing.assert_close(values, want)


def test_step_is_a_place_in_time() -> None:
    want = by_hand(TAGGER, SEQUENCE, lambda out: out[:, 3, 1])
    for target in (Step(3, 1), Step(-2, 1), (3, 1)):
        torch.testing.assert_close(saliency(TAGGER, SEQUENCE, target), want)
    assert torch.equal(want[:, 4], torch.zeros(2, 2)), "a recurrent net does not see the future"
    flat = lambda x: TAGGER(x)[:, :, 0]  # noqa: E731
    torch.testing.assert_close(saliency(flat, SEQUENCE, Step(2)), by_hand(flat, SEQUENCE, lambda out: out[:, 2]))


def test_labels_are_a_weighted_sum() -> None:
    want = by_hand(MLP, X, lambda out: out[:, 0] + out[:, 2])
    torch.testing.assert_close(saliency(MLP, X, Labels([0, 2])), want)
    weighted = by_hand(MLP, X, lambda out: out[:, 0] - 2 * out[:, 1])
    torch.testing.assert_close(saliency(MLP, X, Labels([0, 1], [1.0, -2.0])), weighted)


def test_no_target_for_one_value_per_row() -> None:
    want = by_hand(MLP, X, lambda out: out[:, 0])
    torch.testing.assert_close(saliency(lambda x: MLP(x)[:, 0], X, None), want)
    torch.testing.assert_close(saliency(lambda x: MLP(x)[:, :1], X, None), want)
    torch.testing.assert_close(saliency(lambda x: MLP(x)[:1, 0].sum(), X[:1], None), want[:1])


def test_slices_leave_one_value_or_are_refused() -> None:
    torch.testing.assert_close(saliency(MLP, X, (slice(1, 2),)), saliency(MLP, X, 1))
    with pytest.raises(TargetError, match=r"\(3, 3\)"):
        saliency(MLP, X, (slice(0, 2),))


_BAD = {
    "missing": (MLP, X, None),
    "too large": (MLP, X, 3),
    "too negative": (MLP, X, -4),
    "row too large": (MLP, X, [0, 1, 3]),
    "tensor row too large": (MLP, X, torch.tensor([0, 1, 3])),
    "short list": (MLP, X, [0, 1]),
    "long list": (MLP, X, [0, 1, 2, 0]),
    "empty list": (MLP, X, []),
    "float": (MLP, X, 1.0),
    "float tensor": (MLP, X, torch.tensor([0.0, 1.0, 2.0])),
    "bool": (MLP, X, True),
    "numpy bool": (MLP, X, np.bool_(True)),
    "bool tensor": (MLP, X, torch.tensor([True, False, True])),
    "matrix": (MLP, X, torch.zeros(3, 1, dtype=torch.long)),
    "strings": (MLP, X, ["a", "b", "c"]),
    "word": (MLP, X, "cat"),
    "list of tensors": (MLP, X, [torch.tensor([0, 1])] * 3),
    "floats": (MLP, X, [0.0, 1.0, 2.0]),
    "too many indices": (MLP, X, (0, 1)),
    "too few indices": (SEGMENTER, IMAGE, (1, 2)),
    "int into a map": (SEGMENTER, IMAGE, 1),
    "index outside": (SEGMENTER, IMAGE, (1, 5, 0)),
    "tuples of different lengths": (SEGMENTER, IMAGE, [(1, 2, 0), (0, 1)]),
    "indices per row outside": (SEGMENTER, IMAGE, [(1, 5, 0), (0, 0, 0)]),
    "tuple of strings": (MLP, X, ("a",)),
    "dict": (MLP, X, {0: 1}),
    "function of the wrong shape": (MLP, X, lambda out: out),
    "function of no rows": (MLP, X, lambda out: out.sum()),
    "function of no tensor": (MLP, X, lambda out: "cat"),
    "region of a vector": (MLP, X, Region(1)),
    "region outside": (SEGMENTER, IMAGE, Region(3)),
    "region of another shape": (SEGMENTER, IMAGE, Region(1, torch.ones(3, 3))),
    "step outside": (TAGGER, SEQUENCE, Step(5, 0)),
    "step without class": (TAGGER, SEQUENCE, Step(1)),
    "labels outside": (MLP, X, Labels([0, 3])),
    "labels unweighted": (MLP, X, Labels([0, 1], [1.0])),
    "no labels": (MLP, X, Labels([])),
    "argmax of a map": (SEGMENTER, IMAGE, "argmax"),
    "target of a vector": (lambda x: MLP(x)[:, 0], X, 1),
}


@pytest.mark.parametrize("name", list(_BAD))
def test_bad_targets_are_told(name: str) -> None:
    model, inputs, target = _BAD[name]
    for method in (attr.Saliency(model), attr.IntegratedGradients(model)):
        with pytest.raises(InputError) as caught:
            method.attribute(inputs, target=target)
        assert len(str(caught.value)) > 20


@pytest.mark.parametrize("target", [3, -4, [0, 1, 3], torch.tensor([0, 1, 3])])
def test_an_index_outside_is_an_index_error_too(target: object) -> None:
    with pytest.raises(IndexError, match=r"\b3\b"):
        saliency(MLP, X, target)


@settings(max_examples=60, deadline=None)
@given(st.integers(-8, 8), st.integers(1, 5), st.integers(1, 4))
def test_any_int_is_the_python_index_or_a_target_error(target: int, classes: int, rows: int) -> None:
    weight = drawn(3, classes, seed=classes)
    x = drawn(rows, 3, seed=rows)
    if -classes <= target < classes:
        want = weight[:, target].expand(rows, 3)
        torch.testing.assert_close(saliency(lambda v: v @ weight, x, target), want)
    else:
        with pytest.raises(TargetError):
            saliency(lambda v: v @ weight, x, target)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_list_of_index_tuples_is_read_row_by_row(data: st.DataObject) -> None:
    rows, shape = data.draw(st.integers(1, 4)), data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    index = [tuple(data.draw(st.integers(-size, size - 1)) for size in shape) for _ in range(rows)]
    weight = drawn(3, *shape, seed=rows)
    x = drawn(rows, 3, seed=9)

    def forward(v: Tensor) -> Tensor:
        return torch.tensordot(v, weight, 1)

    want = torch.stack([weight[(slice(None), *each)] for each in index])
    torch.testing.assert_close(saliency(forward, x, index), want)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            None,
            r"output \(2, 5, 3\) leaves \(2, 5, 3\).* pass a tuple of 2 ints up to \(4, 2\), a list of 2 of them",
        ),
        (1, r"with target 1 the output \(2, 5, 3\) leaves \(2, 3\)"),
        ("argmax", r"needs an output \(B, classes\)\. The output is \(2, 5, 3\): pass a tuple of 2 ints"),
        ((torch.tensor(1.5), 0), "Expected a tuple of ints"),
        ((torch.tensor([1, 2]), 0), "Expected a tuple of ints"),
    ],
)
def test_errors_show_the_users_own_output_and_what_fits_it(target: object, says: str) -> None:
    """Chunks of a sweep have more rows than the batch; the message speaks of the batch."""
    model = torch.nn.Linear(2, 3)
    with pytest.raises(TargetError, match=says):
        attr.IntegratedGradients(model).attribute(SEQUENCE, target=target)


def test_errors_of_flat_outputs_count_classes() -> None:
    with pytest.raises(TargetError, match=r"The output is \(3, 3\): pass target=0…2, a list of 3 of them, 'argmax'"):
        attr.IntegratedGradients(MLP).attribute(X)
    with pytest.raises(TargetError, match=r"The output is \(3,\), one number per row: pass target=None"):
        attr.Saliency(lambda x: x.sum(1)).attribute(X, "argmax")
    with pytest.raises(TargetError, match="Labels takes a list of classes, got 2"):
        Labels(2)  # type: ignore[arg-type]


def test_regions_are_given_as_arrays_too() -> None:
    mask = np.zeros((5, 4))
    mask[1:3] = 0.5
    found = saliency(SEGMENTER, IMAGE, Region(1, mask))  # type: ignore[arg-type]
    torch.testing.assert_close(found, saliency(SEGMENTER, IMAGE, Region(1, torch.tensor(mask))))
    with pytest.raises(TargetError, match=r"broadcasts to \(2, 5, 4\), got \(3, 4\)"):
        attr.IntegratedGradients(SEGMENTER).attribute(IMAGE, target=Region(1, torch.ones(3, 4)))
