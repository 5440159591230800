"""Forms of inputs, baselines and masks; expected values are those of upstream 0.9.0."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum.compatibility import forms, windows
from captum.compatibility.results import call_custom_attribution_func, compute_conv_delta_and_format_attrs, sum_rows
from captum.errors import BaselineError, InputError, InputTypeError

A = torch.arange(4.0).reshape(2, 2)
B = torch.ones(2, 1)
IMAGE = torch.ones(2, 3, 4)


def test_inputs() -> None:
    pair = [A, B]
    assert forms.format_inputs(A) == (A,)
    assert forms.format_inputs((A, 1)) == (A, 1)
    assert forms.format_inputs(pair) is pair
    assert forms.format_inputs(None) == (None,)
    assert forms.format_inputs(pair, unpack_inputs=False) == (pair,)
    assert forms.format_tensor_into_tuples(None) is None
    assert forms.format_tensor_into_tuples(A) == (A,)
    with pytest.raises(InputTypeError, match="tuple"):
        forms.format_tensor_into_tuples([A])
    assert [forms.is_tuple(x) for x in (A, (A,), [A])] == [False, True, False]


def test_baselines() -> None:
    assert forms.format_baseline(None, (A, B)) == (0, 0)
    assert forms.format_baseline(None, (A > 1,)) == (False,)
    assert forms.format_baseline(3, (A,)) == (3,)
    assert forms.format_baseline((1, 2.0), (A, B)) == (1, 2.0)
    assert forms.format_input_baseline(A, None) == ((A,), (0,))
    for wrong in ([A], "x"):
        with pytest.raises(BaselineError):
            forms.format_baseline(wrong, (A,))


def test_callable_baselines() -> None:
    assert forms.format_callable_baseline(lambda: A, A) == (A,)
    assert torch.equal(forms.format_callable_baseline(lambda x: x * 0, A)[0], A * 0)
    assert forms.format_callable_baseline(lambda x: (x[1], x[0]), (A, B)) == (B, A)
    assert forms.format_callable_baseline(None, A) == (0,)


def test_tensorized_baselines() -> None:
    first, second = forms.tensorize_baseline((A, B), (0, 2.0))
    assert torch.equal(first, torch.zeros(2, 2))
    assert torch.equal(second, torch.full((2, 1), 2.0))
    (repeated,) = forms.tensorize_baseline((A,), (A[:1],))
    assert torch.equal(repeated, A[[0, 0]])
    assert forms.tensorize_baseline((A,), (A,))[0] is A


@pytest.mark.parametrize("baseline", [0, 1.5, A, A[:1], torch.ones(1, 3)])
def test_baselines_that_fit(baseline: object) -> None:
    forms.validate_input((A,), (baseline,))
    forms.validate_path_input((A,), (baseline,), n_steps=0, method="gausslegendre")


@pytest.mark.parametrize("baselines", [(torch.ones(3),), (torch.ones(3, 2),), (1, 2)])
def test_baselines_that_do_not_fit(baselines: tuple) -> None:
    for check in (forms.validate_input, forms.validate_path_input):
        with pytest.raises(BaselineError, match="Expected"):
            check((A,), baselines)


def test_distributions_and_paths() -> None:
    forms.validate_input((A,), (torch.ones(5, 2),), draw_baseline_from_distrib=True)
    with pytest.raises(BaselineError, match=r"\(N, 2\)"):
        forms.validate_input((A,), (torch.ones(5, 3),), draw_baseline_from_distrib=True)
    with pytest.raises(InputError, match="positive whole number"):
        forms.validate_path_input((A,), (0,), n_steps=-1)
    with pytest.raises(InputError, match="gausslegendre"):
        forms.validate_path_input((A,), (0,), method="x")
    forms.validate_noise_tunnel_type("a", ["a"])
    with pytest.raises(InputError, match="nt_type"):
        forms.validate_noise_tunnel_type("x", ["a"])


def test_outputs() -> None:
    assert forms.format_output(True, (A,)) == (A,)
    assert forms.format_output(False, (A,)) is A
    with pytest.raises(InputError, match="not 2"):
        forms.format_output(False, (A, B))
    with pytest.raises(InputTypeError):
        forms.format_output(True, [A])
    assert forms.format_outputs(True, [(A,), (A, B)]) == [A, (A, B)]
    assert forms.format_outputs(False, [(A,)]) is A
    with pytest.raises(InputError):
        forms.format_outputs(False, [(A,), (B,)])
    assert [forms.format_additional_forward_args(x) for x in (None, 3, (3, 4), "s")] == [None, (3,), (3, 4), ("s",)]


def test_reduced_lists() -> None:
    assert torch.equal(forms.reduce_list([A, A]), torch.cat([A, A]))
    first, second = forms.reduce_list([(A, B), (A, B)])
    assert (first.shape, second.shape) == ((4, 2), (4, 1))
    assert torch.equal(forms.reduce_list([A, A], sum), 2 * A)
    assert forms.reduce_list([False, True]) is True
    assert forms.reduce_list([False, False]) is False
    for wrong in ([], [1, 2], [None]):
        with pytest.raises(InputError):
            forms.reduce_list(wrong)


def test_masks() -> None:
    masks = forms.format_feature_mask(None, (A, B), 5)
    assert [mask.tolist() for mask in masks] == [[[5, 6]], [[7]]]
    assert forms.format_feature_mask(A, (A,)) == (A,)
    assert forms.max_feature_index((torch.tensor([0, 4]), torch.tensor([[2]]))) == 4
    masks, count = forms.construct_feature_mask(None, (A, B))
    assert ([mask.tolist() for mask in masks], count) == ([[[0, 1]], [[2]]], 3)
    masks, count = forms.construct_feature_mask((torch.tensor([[1, 2]]), torch.tensor([[3]])), (A, B))
    assert ([mask.tolist() for mask in masks], count) == ([[[0, 1]], [[2]]], 3)
    masks, count = forms.construct_feature_mask(torch.tensor([[0, 2]]), (A,))
    assert ([mask.tolist() for mask in masks], count) == ([[[0, 2]]], 3)


def test_small_ones() -> None:
    summed = forms.reshape_and_sum(torch.arange(12.0).reshape(6, 2), 3, 2, (2,))
    assert summed.tolist() == [[12.0, 15.0], [18.0, 21.0]]
    assert forms.flatten_tensor_or_tuple((A, B)).tolist() == [0, 1, 2, 3, 1, 1]
    assert forms.safe_div(torch.tensor([1.0, 2, 0]), torch.tensor([2.0, 0, 0])).tolist() == [0.5, 2, 0]
    assert forms.safe_div(torch.tensor([1.0, 2]), 0.0, 5.0).tolist() == pytest.approx([0.2, 0.4])
    assert forms.safe_div(torch.tensor([1.0, 2]), 4).tolist() == [0.25, 0.5]
    versions = ("2.1.0", "2.1.0a0+gitabc", "1.10.0+cu113", "2.1.0+cu12.1", "3.0rc1", "2")
    assert [forms.parse_version(v) for v in versions] == [(2, 1, 0), (2, 1), (1, 10), (2, 1), (3,), (2,)]
    with pytest.raises(InputError):
        forms.parse_version("")
    assert sum_rows(IMAGE).tolist() == [12.0, 12.0]


@pytest.mark.parametrize(("shapes", "inputs", "expected"), [
    ((1,), (A,), ((1,),)),
    (((1,),), (A,), ((1,),)),
    ((1, 2), (IMAGE,), ((1, 2),)),
    (((1,), (2, 2)), (A, IMAGE), ((1,), (2, 2))),
])  # fmt: skip
def test_windows(shapes: object, inputs: tuple[Tensor, ...], expected: object) -> None:
    assert windows.format_and_verify_sliding_window_shapes(shapes, inputs) == expected


@pytest.mark.parametrize(("shapes", "inputs"), [
    (1, (A,)), ((1, 1), (A,)), ((1,), (IMAGE,)), ((1,), (A, IMAGE)), (((1,),), (A, IMAGE)), ("ab", (A, A)),
])  # fmt: skip
def test_windows_that_do_not_fit(shapes: object, inputs: tuple[Tensor, ...]) -> None:
    with pytest.raises(InputError, match="window"):
        windows.format_and_verify_sliding_window_shapes(shapes, inputs)


@pytest.mark.parametrize(("strides", "inputs", "expected"), [
    (None, (A, IMAGE), (1, 1)), (1, (A,), (1,)), ((1,), (A,), (1,)), (((1,),), (A,), ((1,),)),
    ((1, 2), (IMAGE,), ((1, 2),)), (((1, 2),), (IMAGE,), ((1, 2),)), ((1, 2), (A, IMAGE), (1, 2)),
    (((1,), 2), (A, IMAGE), ((1,), 2)), ((1, (2, 2)), (A, IMAGE), (1, (2, 2))),
])  # fmt: skip
def test_strides(strides: object, inputs: tuple[Tensor, ...], expected: object) -> None:
    assert windows.format_and_verify_strides(strides, inputs) == expected


@pytest.mark.parametrize(("strides", "inputs"), [((1, 1), (A,)), ("a", (A,)), ((1,), (A, IMAGE)), (1, (A, IMAGE))])
def test_strides_that_do_not_fit(strides: object, inputs: tuple[Tensor, ...]) -> None:
    with pytest.raises(InputError, match="stride"):
        windows.format_and_verify_strides(strides, inputs)


def test_custom_rules() -> None:
    assert call_custom_attribution_func(lambda m: m, (A,), (B,), (B,)) == (A,)
    (product,) = call_custom_attribution_func(lambda m, x, y: (m[0] * (x[0] - y[0]),), (A,), (A,), (2 * A,))
    assert torch.equal(product, -A * A)
    with pytest.raises(InputTypeError):
        call_custom_attribution_func(3, (A,), (A,), (A,))
    with pytest.raises(InputError, match="4 parameters"):
        call_custom_attribution_func(lambda a, b, c, d: a, (A,), (A,), (A,))


def test_attributions_with_their_delta() -> None:
    from captum.attr import IntegratedGradients

    method = IntegratedGradients(lambda x: x.sum(1))
    arguments = (method, True, (A,), 0, (A,), None, None)
    attributions, delta = compute_conv_delta_and_format_attrs(*arguments)
    assert attributions is A
    assert delta.tolist() == [0.0, 0.0]
    assert compute_conv_delta_and_format_attrs(method, False, *arguments[2:], is_inputs_tuple=True) == (A,)
