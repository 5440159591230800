"""Texts as features: templates and tokens."""

from __future__ import annotations

import pytest
import torch

from captum.attr import InterpretableInput, TextTemplateInput, TextTokenInput
from captum.errors import InputError, InputTypeError, MaskError
from tests.unit.attr.text.llm_toys import tokenizer


def test_places_of_a_template_are_filled():
    inp = TextTemplateInput("{} is {}", ["Ann", "tall"], baselines=["Bob", "low"])
    assert isinstance(inp, InterpretableInput)
    assert inp.to_tensor().tolist() == [[1.0, 1.0]]
    assert inp.to_model_input() == "Ann is tall"
    assert inp.to_model_input(torch.tensor([[1.0, 0.0]])) == "Ann is low"
    assert inp.to_model_input(torch.tensor([[0, 1]])) == "Bob is tall"
    assert inp.to_model_input(torch.tensor([False, False])) == "Bob is low"
    assert (inp.n_itp_features, inp.values) == (2, ["Ann", "tall"])


def test_absent_values_are_empty_by_default():
    assert TextTemplateInput("{}{}!", ["a", "b"]).to_model_input(torch.tensor([[0.0, 1.0]])) == "b!"


@pytest.mark.parametrize("form", [str, "function"])
def test_places_by_name(form):
    template = "{a}|{b}" if form is str else lambda a, b: f"{a}|{b}"
    inp = TextTemplateInput(template, {"a": "x", "b": "y"}, baselines={"b": "q", "a": "p"})
    assert inp.to_model_input() == "x|y"
    assert inp.to_model_input(torch.tensor([[1.0, 0.0]])) == "x|q"


def test_values_of_a_group_go_together_and_share_a_score():
    inp = TextTemplateInput("{} {} {}", ["a", "b", "c"], ["A", "B", "C"], mask=[9, 2, 9])
    assert inp.n_itp_features == 2
    assert inp.to_model_input(torch.tensor([[1.0, 0.0]])) == "A b C"  # groups by id: 2, then 9
    assert inp.format_attr(torch.tensor([[0.5, 2.0], [1.0, 3.0]])).tolist() == [[2.0, 0.5, 2.0], [3.0, 1.0, 3.0]]
    named = TextTemplateInput("{u} {v}", {"u": "a", "v": "b"}, mask={"u": "one", "v": "one"})
    assert named.to_model_input(torch.tensor([[0.0]])) == " "


def test_baselines_may_be_drawn_for_every_text():
    count = iter(range(10))
    inp = TextTemplateInput("{}", ["a"], baselines=lambda: [f"b{next(count)}"])
    assert [inp.to_model_input(torch.tensor([[0]])) for _ in range(3)] == ["b0", "b1", "b2"]
    assert inp.to_model_input() == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("{}", ("a",)), "values as a list or a dict"),
        ((3, ["a"]), "template as a string or a function"),
        (("{}", ["a"], {"a": "b"}), "baselines as a list of 1"),
        (("{}", ["a"], ["b", "c"]), "baselines as a list of 1"),
        (("{a}", {"a": "b"}, ["c"]), "baselines as a dict with the keys"),
        (("{a}", {"a": "b"}, {"c": "d"}), "baselines as a dict with the keys"),
        (("{}", ["a"], None, {"a": 0}), "mask as a list of 1"),
        (("{} {}", ["a", "b"], None, [0]), "mask as a list of 2"),
        (("{} {}", ["a", "b"], None, [0, "x"]), "group ids of one kind"),
    ],
)
def test_forms_that_do_not_agree_are_told(arguments, message):
    with pytest.raises(AssertionError, match=message):
        TextTemplateInput(*arguments)


def test_what_is_drawn_is_checked_too():
    inp = TextTemplateInput("{}", ["a"], baselines=lambda: {"a": "b"})
    with pytest.raises(AssertionError, match="baselines as a list"):
        inp.to_model_input(torch.tensor([[0]]))
    with pytest.raises(InputError, match="perturbed tensor of 1 features"):
        inp.to_model_input(torch.tensor([[0, 1]]))
    assert issubclass(MaskError, InputError)
    assert issubclass(InputTypeError, TypeError)


def test_tokens_of_a_text():
    inp = TextTokenInput("Ann lives in Oslo", tokenizer())
    assert inp.values == ["<s>", "Ann", "lives", "in", "Oslo"]
    assert inp.to_tensor().tolist() == [[1] * 5]
    assert inp.to_model_input().tolist() == inp.inp_tensor.tolist()
    replaced = inp.to_model_input(torch.tensor([[1, 0, 1, 1, 0]]))
    assert tokenizer().convert_ids_to_tokens(replaced[0].tolist()) == ["<s>", "<pad>", "lives", "in", "<pad>"]
    assert inp.format_attr(torch.ones(1, 5)).shape == (1, 5)


@pytest.mark.parametrize("skipped", [["<s>", "in"], [1, tokenizer().convert_tokens_to_ids("in")]])
def test_skipped_tokens_stay_and_have_no_score(skipped):
    inp = TextTokenInput("Ann lives in Oslo", tokenizer(), baselines="<unk>", skip_tokens=skipped)
    assert inp.values == ["Ann", "lives", "Oslo"]
    assert inp.n_itp_features == 3
    assert inp.itp_mask is not None
    assert inp.itp_mask.tolist() == [[False, True, True, False, True]]
    replaced = inp.to_model_input(torch.tensor([[0.0, 1.0, 0.5]]))
    assert tokenizer().convert_ids_to_tokens(replaced[0].tolist()) == ["<s>", "<unk>", "lives", "in", "<unk>"]
    assert inp.to_model_input().tolist() == inp.inp_tensor.tolist()


def test_a_token_that_is_not_in_the_vocabulary_is_told():
    with pytest.raises(InputError, match="'zebra' is not in the tokenizer's vocabulary"):
        TextTokenInput("Ann", tokenizer(), skip_tokens=["zebra"])
    with pytest.raises(InputError, match="'zebra' is not"):
        TextTokenInput("Ann", tokenizer(), baselines="zebra")
    with pytest.raises(InputError, match="perturbed tensor of 2 features"):
        TextTokenInput("Ann", tokenizer()).to_model_input(torch.ones(1, 3))
