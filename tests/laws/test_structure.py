"""What goes in decides the form of what comes out, and nothing about the numbers."""

from __future__ import annotations

import functools
import warnings
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.errors import CaptumWarning, InputError
from tests.cases import CASES, Case, keeping
from tests.models import TwoInputs, model_named
from tests.subjects import drawn, subject


class Joined(nn.Module):
    """A model of one tensor, called with its halves."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.model(torch.cat([a, b], 1))


class FromDict(nn.Module):
    """Takes one mapping."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        return self.model(batch["a"], batch["b"])


@dataclass
class Pair:
    """Takes part as one structured argument."""

    a: Tensor
    b: Tensor
    note: str = "kept"


Named = namedtuple("Named", ["a", "b"])  # noqa: PYI024 - the untyped kind is what users bring


@pytest.mark.parametrize("case", keeping("structure", spatial=False))
def test_a_tuple_of_one_is_a_tensor_in_a_tuple(case: Case) -> None:
    whole = subject("mlp")
    plain = case.run(whole)
    wrapped = case.run(
        whole.but(inputs=(whole.inputs,), baselines=(whole.baselines,), cloud=(whole.cloud,)),
    )
    assert isinstance(plain, Tensor)
    if case.place == "layer":
        assert isinstance(wrapped, Tensor)
        torch.testing.assert_close(wrapped, plain)
        return
    assert isinstance(wrapped, tuple)
    assert len(wrapped) == 1
    torch.testing.assert_close(wrapped[0], plain)


@pytest.mark.parametrize("case", keeping("structure", random=False, spatial=False))
def test_splitting_the_input_splits_the_values(case: Case) -> None:
    whole = subject("mlp")
    want = case.run(whole)
    split = whole.but(
        model=Joined(whole.model), inputs=(whole.inputs[:, :1], whole.inputs[:, 1:]), layer="model.act1",
        baselines=(whole.baselines[:, :1], whole.baselines[:, 1:]),
        cloud=(whole.cloud[:, :1], whole.cloud[:, 1:]),
        spatial=None,
    )  # fmt: skip
    values = case.run(split)
    torch.testing.assert_close(values if case.place == "layer" else torch.cat(values, 1), want)


@pytest.mark.parametrize("case", keeping("structure", random=False, spatial=False))
def test_a_dict_of_keywords_comes_back_as_a_dict(case: Case) -> None:
    """The keys are the names of the model's arguments, in any order."""
    whole = subject("pair").but(arguments=None)
    want = case.run(whole)
    a, b = whole.inputs
    start = {"a": whole.baselines[0], "b": whole.baselines[1]}
    cloud = {"b": whole.cloud[1], "a": whole.cloud[0]}
    values = case.run(whole.but(inputs={"b": b, "a": a}, baselines=start, cloud=cloud))
    if case.place == "layer":
        torch.testing.assert_close(values, want)
        return
    assert type(values) is dict
    assert list(values) == ["b", "a"]
    torch.testing.assert_close((values["a"], values["b"]), want)


@pytest.mark.parametrize("form", ["dict", "OrderedDict", "dataclass", "named tuple", "nested"])
@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "IntegratedGradients"])
def test_one_structured_argument_keeps_its_structure(name: str, form: str) -> None:
    model = model_named("pair")
    a, b = drawn(2, 3), drawn(2, 2, seed=2)
    kind = getattr(attr, name)
    want = kind(model).attribute((a, b), target=0)
    forms = {
        "dict": ({"a": a, "b": b}, lambda v: (v["a"], v["b"])),
        "OrderedDict": (OrderedDict(a=a, b=b), lambda v: (v["a"], v["b"])),
        "dataclass": (Pair(a, b), lambda v: (v.a, v.b)),
        "named tuple": (Named(a, b), lambda v: (v.a, v.b)),
        "nested": ({"deep": {"a": a, "more": (b, 3)}}, lambda v: (v["deep"]["a"], v["deep"]["more"][0])),
    }
    inputs, read = forms[form]

    def forward_one(value: object) -> Tensor:
        return model(*read(value))

    values = kind(forward_one).attribute(inputs, target=0)
    assert type(values) is type(inputs)
    torch.testing.assert_close(read(values), want)
    if form == "dataclass":
        assert values.note == "kept"


def test_batch_encodings_are_taken_and_given() -> None:
    """A tokenizer's answer goes in as it is; the mask is a constant of the model and gets zeros or nothing."""
    from transformers import BatchEncoding

    whole = subject("bert")
    want = attr.Saliency(whole.model).attribute(whole.inputs, 1, additional_forward_args=whole.arguments)
    encoding = BatchEncoding({"input_ids": whole.inputs, "attention_mask": whole.arguments})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaptumWarning)  # the mask is an input without a gradient
        values = attr.Saliency(whole.model).attribute(encoding, 1)
    assert isinstance(values, BatchEncoding)
    torch.testing.assert_close(values["input_ids"], want)


@pytest.mark.parametrize("case", keeping("structure", spatial=False))
def test_extra_arguments_follow_their_rows(case: Case) -> None:
    """A tensor with one entry per row is repeated with the rows; other values pass as they are."""
    whole = subject("pair")
    both = case.run(whole)
    for index, scale in enumerate((1.0, 2.0)):
        other = case.run(whole.but(arguments=scale))
        for one, two in zip(
            both if isinstance(both, tuple) else (both,), other if isinstance(other, tuple) else (other,), strict=True
        ):
            torch.testing.assert_close(one[index], two[index], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("case", keeping("callables"))
def test_any_callable_will_do(case: Case) -> None:
    """A lambda, a bound method, a partial around the model: the layer is found inside."""
    whole = subject(case.home)
    want = case.run(whole)
    for forward in (
        lambda x: whole.model(x * 1), whole.model.forward, functools.partial(whole.model),
        functools.partial(lambda model, x: model(x), whole.model),
    ):  # fmt: skip
        torch.testing.assert_close(case.run(whole, model=forward), want)


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient"])
def test_a_function_without_parameters_is_called_without(name: str) -> None:
    """Contract 1.1: a closure over its own inputs is differentiated by them or refused, never taken as constant."""
    x = drawn(2, 3).requires_grad_()
    values = getattr(attr, name)(lambda: (x * x).sum(1)).attribute(x)
    torch.testing.assert_close(values, 2 * x.detach() * (x.detach() if name == "InputXGradient" else x.detach().sign()))
    still = drawn(2, 3)
    weight = torch.ones((), requires_grad=True)
    with pytest.raises(InputError, match="closure"):
        getattr(attr, name)(lambda: (weight * still * 2).sum(1)).attribute(still)


@pytest.mark.parametrize("shape", [(3, 4, 4), (5,), (2, 1, 3, 2)])
def test_any_feature_shape(shape: tuple[int, ...]) -> None:
    """The number of feature dims is free."""
    x, weight = drawn(2, *shape), drawn(*shape, seed=2)

    def forward(value: Tensor) -> Tensor:
        return (value.sin() * weight).flatten(1).sum(1)

    torch.testing.assert_close(attr.Saliency(forward).attribute(x, abs=False), x.cos() * weight)
    torch.testing.assert_close(
        attr.IntegratedGradients(forward).attribute(x, n_steps=20), x.sin() * weight, rtol=1e-4, atol=1e-5
    )


def test_non_contiguous_and_channels_last_inputs() -> None:
    """Strides of the inputs are no part of the question."""
    whole = subject("cnn")
    for name in ("Saliency", "IntegratedGradients", "LayerGradCam", "NeuronGradient"):
        want = CASES[name].run(whole)
        strided = whole.inputs.to(memory_format=torch.channels_last)
        torch.testing.assert_close(CASES[name].run(whole.but(inputs=strided)), want, rtol=1e-4, atol=1e-6)
        flipped = whole.inputs.flip(3).contiguous().flip(3)
        torch.testing.assert_close(
            CASES[name].run(whole.but(inputs=flipped.mT.contiguous().mT)), want, rtol=1e-4, atol=1e-6
        )


def test_two_inputs_of_one_storage() -> None:
    """The same tensor twice is two inputs."""
    x = drawn(2, 3)
    values = attr.InputXGradient(lambda a, b: (a * 2 + b * 3).sum(1)).attribute((x, x))
    torch.testing.assert_close(values, (2 * x, 3 * x))


def test_a_model_without_the_constant_is_told_apart() -> None:
    """A model's own defaults apply when nothing is passed."""
    model = TwoInputs().eval()
    inputs = (drawn(2, 3), drawn(2, 2))
    torch.testing.assert_close(
        attr.Saliency(model).attribute(inputs, 0), attr.Saliency(model).attribute(inputs, 0, True, 1.0)
    )
