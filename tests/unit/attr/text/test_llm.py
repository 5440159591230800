"""Attribution of a language model's words by perturbed prompts, against plain loops over prompts and tokens."""

from __future__ import annotations

import itertools
import math
import random
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import captum.attr.text.continuation
from captum.attr import (
    FeatureAblation,
    KernelShap,
    LayerFeatureAblation,
    Lime,
    LLMAttribution,
    Saliency,
    ShapleyValues,
    ShapleyValueSampling,
    TextTemplateInput,
    TextTokenInput,
)
from captum.attr.baselines import ProductBaselines
from captum.errors import InputError, InputTypeError, OutputError
from tests.unit.attr.text.llm_toys import llama, log_probs, tokenizer

VALUES, OTHERS = ["Ann", "Oslo", "tall"], ["Bob", "Rome", "low"]
SENTENCE = "{} lives in {} and is {}"
TARGET = "and then ran"
IDS = tokenizer().encode(TARGET, add_special_tokens=False)


@pytest.fixture
def prompt() -> TextTemplateInput:
    return TextTemplateInput(SENTENCE, VALUES, baselines=OTHERS)


def game(present: tuple[bool, ...]) -> Tensor:
    """Log-probabilities of the whole target and of its tokens when some values are replaced."""
    words = [v if p else o for p, v, o in zip(present, VALUES, OTHERS, strict=True)]
    each = log_probs(SENTENCE.format(*words), IDS)
    return torch.cat([each.sum()[None], each])


def leave_one_out() -> Tensor:
    full = game((True, True, True))
    return torch.stack([full - game(tuple(j != i for j in range(3))) for i in range(3)], 1)


def shapley() -> Tensor:
    orders = list(itertools.permutations(range(3)))
    values = torch.zeros(1 + len(IDS), 3)
    for order in orders:
        present: set[int] = set()
        for player in order:
            before = game(tuple(i in present for i in range(3)))
            present.add(player)
            values[:, player] += (game(tuple(i in present for i in range(3))) - before) / len(orders)
    return values


@pytest.mark.parametrize("in_tokens", [True, False])
def test_ablation_is_the_loss_of_log_probability(prompt, in_tokens):
    result = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(
        prompt, target=TARGET, forward_in_tokens=in_tokens, use_cached_outputs=in_tokens
    )
    expected = leave_one_out()
    torch.testing.assert_close(result.seq_attr, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(result.token_attr, expected[1:], rtol=1e-4, atol=1e-4)
    assert result.input_tokens == VALUES
    assert result.output_tokens == ["and", "then", "ran"]
    assert result.inp is prompt


def test_probabilities_in_their_own_units(prompt):
    result = LLMAttribution(FeatureAblation(llama()), tokenizer(), attr_target="prob").attribute(prompt, target=TARGET)
    full = game((True, True, True)).exp()
    expected = torch.stack([full - game(tuple(j != i for j in range(3))).exp() for i in range(3)], 1)
    torch.testing.assert_close(result.seq_attr, expected[0], rtol=1e-3, atol=1e-8)
    torch.testing.assert_close(result.token_attr, expected[1:], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        (ShapleyValues, {}),
        (ShapleyValueSampling, {"n_samples": 400, "seed": 0}),
        (KernelShap, {"n_samples": 8}),
    ],
)
def test_shapley_values_of_the_parts_of_a_prompt(prompt, method, options):
    result = LLMAttribution(method(llama()), tokenizer()).attribute(prompt, target=TARGET, **options)
    expected = shapley()
    near = 0.15 if method is ShapleyValueSampling else 1e-4
    torch.testing.assert_close(result.seq_attr, expected[0], rtol=0, atol=near)
    total = game((True,) * 3)[0] - game((False,) * 3)[0]
    torch.testing.assert_close(result.seq_attr.sum(), total, rtol=1e-4, atol=1e-4)
    if method is KernelShap:
        assert result.token_attr is None
    else:
        torch.testing.assert_close(result.token_attr, expected[1:], rtol=0, atol=near)


def test_lime_explains_the_whole_target(prompt):
    result = LLMAttribution(Lime(llama()), tokenizer()).attribute(prompt, target=TARGET, n_samples=50, seed=0)
    assert result.seq_attr.shape == (3,)
    assert result.token_attr is None
    assert bool((result.seq_attr.abs() > 1e-3).any())


def test_standard_errors_come_along(prompt):
    result = LLMAttribution(ShapleyValueSampling(llama()), tokenizer()).attribute(
        prompt, target=TARGET, n_samples=20, seed=1, return_std_error=True
    )
    expected = shapley()
    assert result.seq_std_error is not None
    assert result.token_std_error is not None
    assert result.token_std_error.shape == (3, 3)
    assert bool(((result.seq_attr - expected[0]).abs() <= 4 * result.seq_std_error).all())


def test_tokens_are_replaced_one_by_one():
    prompt = TextTokenInput("Ann lives in Oslo", tokenizer(), baselines="<unk>", skip_tokens=["<s>"])
    target = torch.tensor([5, 6])
    result = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, target=target)
    full = log_probs(prompt.inp_tensor, [5, 6])
    for place in range(4):
        ids = prompt.inp_tensor.clone()
        ids[0, place + 1] = 2
        assert result.token_attr is not None
        torch.testing.assert_close(result.token_attr[:, place], full - log_probs(ids, [5, 6]), rtol=1e-4, atol=1e-4)
    assert result.input_tokens == ["Ann", "lives", "in", "Oslo"]


def test_values_of_one_group_go_together():
    prompt = TextTemplateInput(SENTENCE, VALUES, baselines=OTHERS, mask=[7, 4, 7])
    result = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, target=TARGET)
    full = game((True, True, True))[0]
    together, alone = full - game((False, True, False))[0], full - game((True, False, True))[0]
    torch.testing.assert_close(result.seq_attr, torch.stack([together, alone, together]), rtol=1e-4, atol=1e-4)


def test_prompts_of_different_lengths_share_a_pass(monkeypatch):
    longer = TextTemplateInput("{} {} {}", ["Ann lives in Oslo and", "the cat sat", "Bob ran to the park"])
    shapes: list[tuple[int, ...]] = []

    def note(_module: nn.Module, _args: object, named: dict[str, Tensor]) -> None:
        shapes.append(tuple(named["input_ids"].shape))

    handle = llama().register_forward_pre_hook(note, with_kwargs=True)
    try:
        values = LLMAttribution(ShapleyValues(llama()), tokenizer()).attribute(longer, target=TARGET).seq_attr
        together = len(shapes)
        monkeypatch.setattr(captum.attr.text.continuation, "FIRST_TOKENS", 1)
        monkeypatch.setattr(captum.attr.text.continuation, "MOST_TOKENS", 1)
        one_by_one = LLMAttribution(ShapleyValues(llama()), tokenizer()).attribute(longer, target=TARGET).seq_attr
    finally:
        handle.remove()
    # no prompt twice, but for one alone without the target, and one without padding beside it
    assert together <= 6
    assert sum(shape[0] for shape in shapes[:together]) == 8 + 2
    assert all(shape[0] == 1 for shape in shapes[together:])
    torch.testing.assert_close(values, one_by_one, rtol=1e-4, atol=1e-4)


def test_memory_that_runs_out_makes_passes_smaller(prompt):
    class Small(nn.Module):
        device = torch.device("cpu")

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
            if len(input_ids) > 2:
                message = "out of memory"
                raise torch.OutOfMemoryError(message)
            return SimpleNamespace(logits=llama()(input_ids=input_ids, attention_mask=attention_mask).logits)

    method = LLMAttribution(ShapleyValues(Small()), tokenizer())
    torch.testing.assert_close(method.attribute(prompt, target=TARGET).seq_attr, shapley()[0], rtol=1e-4, atol=1e-4)


def test_models_that_take_ids_alone_and_give_logits_with_a_dim_more(prompt):
    class Plain(nn.Module):
        def forward(self, input_ids: Tensor) -> SimpleNamespace:
            assert len(input_ids) == 1 or bool((input_ids != 0).all())  # nothing is padded
            return SimpleNamespace(logits=llama()(input_ids=input_ids).logits[:, None])

    result = LLMAttribution(FeatureAblation(Plain()), tokenizer()).attribute(prompt, target=TARGET)
    torch.testing.assert_close(result.seq_attr, leave_one_out()[0], rtol=1e-4, atol=1e-4)


class Encoder(nn.Module):
    """Reads all tokens, padding excepted, at every position; its logits are no function of what stands before alone."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        words = torch.nn.functional.one_hot(input_ids, 60).double() * attention_mask[:, :, None]
        whole = words.sum(1, keepdim=True) @ torch.linspace(-1, 1, 60 * 60, dtype=torch.float64).reshape(60, 60).sin()
        return SimpleNamespace(logits=whole.expand(-1, input_ids.shape[1], -1))


@pytest.mark.parametrize("target", ["and then ran", "and"])
def test_models_that_read_ahead_score_token_by_token(target):
    prompt = TextTemplateInput("{} {}", ["Ann lives in Oslo", "the cat"])
    result = LLMAttribution(FeatureAblation(Encoder()), tokenizer()).attribute(prompt, target=target)
    ids = tokenizer().encode(target, add_special_tokens=False)

    def alone(text: str) -> Tensor:
        read, found = tokenizer().encode(text, return_tensors="pt"), []
        for token in ids:
            logits = Encoder()(read, torch.ones_like(read)).logits
            found.append(logits[0, -1].log_softmax(-1)[token])
            read = torch.cat([read, torch.tensor([[token]])], 1)
        return torch.stack(found)

    full = alone("Ann lives in Oslo the cat")
    expected = torch.stack([full - alone(" the cat"), full - alone("Ann lives in Oslo ")], 1)
    torch.testing.assert_close(result.token_attr, expected.to(result.seq_attr.dtype), rtol=1e-4, atol=1e-5)


def test_models_that_read_padding_take_every_prompt_alone():
    class Last(nn.Module):
        """Reads the last place, whatever the mask says."""

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
            logits = llama()(input_ids=input_ids, attention_mask=attention_mask).logits
            return SimpleNamespace(logits=logits + input_ids[:, -1:, None] * torch.linspace(0, 1, logits.shape[2]))

    prompt = TextTemplateInput("{} {} Ann", ["the cat", "sat on the mat"])
    result = LLMAttribution(ShapleyValues(Last()), tokenizer()).attribute(prompt, target="ran")
    one = TextTemplateInput("{} {} Ann", ["the cat", "sat on the mat"])
    alone = LLMAttribution(ShapleyValues(lambda input_ids: Last()(input_ids, torch.ones_like(input_ids))), tokenizer())
    torch.testing.assert_close(result.seq_attr, alone.attribute(one, target="ran").seq_attr, rtol=1e-4, atol=1e-4)


def test_models_that_read_ahead_take_no_further_inputs_with_several_tokens():
    class Prompt(TextTemplateInput):
        def to_model_input(self, perturbed_tensor: Tensor | None = None) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as of an image
            return dict(tokenizer()(super().to_model_input(perturbed_tensor), return_tensors="pt"))

    method = LLMAttribution(FeatureAblation(Encoder()), tokenizer())
    assert method.attribute(Prompt("{}", ["Ann"]), target="ran").seq_attr.shape == (1,)
    with pytest.raises(OutputError, match="reads ahead"):
        method.attribute(Prompt("{}", ["Ann"]), target="and then")


def test_prompts_with_further_inputs_are_scored_alone():
    class Prompt(TextTemplateInput):
        def to_model_input(self, perturbed_tensor: Tensor | None = None) -> dict[str, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  # as of an image
            return dict(tokenizer()(super().to_model_input(perturbed_tensor), return_tensors="pt"))

    result = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(
        Prompt(SENTENCE, VALUES, baselines=OTHERS), target=TARGET
    )
    torch.testing.assert_close(result.seq_attr, leave_one_out()[0], rtol=1e-4, atol=1e-4)


def test_without_a_target_the_model_speaks(prompt):
    ids = tokenizer()(SENTENCE.format(*VALUES), return_tensors="pt")
    said = llama().generate(**ids, max_new_tokens=3, do_sample=False)[0, ids["input_ids"].shape[1] :]
    method = LLMAttribution(FeatureAblation(llama()), tokenizer())
    spoken = method.attribute(prompt, gen_args={"max_new_tokens": 3, "do_sample": False})
    given = method.attribute(prompt, target=said)
    assert len(spoken.output_tokens) == 3
    torch.testing.assert_close(spoken.token_attr, given.token_attr)
    assert len(method.attribute(prompt).output_tokens) == 25


def test_trials_average_baselines_that_are_drawn():
    drawn: list[tuple[str, ...]] = []

    class Noted(ProductBaselines):
        def sample(self) -> list[str]:
            found = super().sample()
            drawn.append(tuple(found))
            return found

    choices = Noted([["Bob"], ["Rome", "park"], ["low"]])
    prompt = TextTemplateInput(SENTENCE, VALUES, baselines=choices)
    random.seed(0)
    result = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, target=TARGET, num_trials=40)
    assert {d[1] for d in drawn} == {"Rome", "park"}
    full = game((True, True, True))[0]
    low, high = sorted(
        float(full - log_probs(SENTENCE.format("Ann", place, "tall"), IDS).sum()) for place in ("Rome", "park")
    )
    assert low + 0.2 * (high - low) < float(result.seq_attr[1]) < high - 0.2 * (high - low)
    torch.testing.assert_close(result.seq_attr[[0, 2]], leave_one_out()[0, [0, 2]], rtol=1e-4, atol=1e-4)


def test_every_scored_prompt_can_be_looked_at(prompt):
    seen: dict[str, list[float]] = {}

    def look(text: str, response: str, chances: list[float]) -> None:
        assert text not in seen
        assert response == TARGET
        seen[text] = chances

    LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, target=TARGET, _inspect_forward=look)
    assert len(seen) == 4
    first = seen[SENTENCE.format(*VALUES)]
    assert first[0] == pytest.approx(math.exp(float(game((True,) * 3)[0])), rel=1e-3)
    assert first[0] == pytest.approx(math.prod(first[1:]), rel=1e-5)


def test_surrogates_can_be_looked_at_too(prompt):
    seen: list[str] = []
    for method in (Lime(llama()), KernelShap(llama())):
        LLMAttribution(method, tokenizer()).attribute(
            prompt, target=TARGET, n_samples=8, _inspect_forward=lambda text, *_: seen.append(text)
        )
    assert SENTENCE.format(*VALUES) in seen


def test_log_probabilities_of_half_precision_models_are_float32(prompt):
    class Half(nn.Module):
        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
            logits = llama()(input_ids=input_ids, attention_mask=attention_mask).logits
            return SimpleNamespace(logits=logits.bfloat16())

    result = LLMAttribution(ShapleyValues(Half()), tokenizer()).attribute(prompt, target=TARGET)
    assert result.seq_attr.dtype == torch.float32
    torch.testing.assert_close(result.seq_attr, shapley()[0], rtol=0, atol=0.06)


def test_the_users_method_and_model_stay_as_they_are(prompt):
    method = FeatureAblation(llama())
    before = dict(vars(method))
    LLMAttribution(method, tokenizer()).attribute(prompt, target=TARGET)
    assert vars(method) == before
    assert not llama().training
    assert all(p.grad is None for p in llama().parameters())


def test_models_in_training_mode_draw_for_every_prompt():
    class Noisy(nn.Module):
        device = torch.device("cpu")
        calls = 0

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
            self.calls += len(input_ids)
            logits = llama()(input_ids=input_ids, attention_mask=attention_mask).logits
            return SimpleNamespace(logits=logits + torch.randn(len(logits), 1, logits.shape[2]))

    model = Noisy().train()
    same = TextTemplateInput("{} {}", ["Ann", "Oslo"], baselines=["Ann", "Oslo"])
    result = LLMAttribution(FeatureAblation(model), tokenizer()).attribute(same, target=TARGET)
    assert model.calls >= 3
    assert bool((result.seq_attr != 0).any())


@pytest.mark.parametrize(
    ("options", "fault", "message"),
    [
        ({"target": 3}, TypeError, "a text or token ids"),
        ({"target": [5, 6]}, TypeError, "a text or token ids"),
        ({"target": torch.tensor([0.5])}, TypeError, "a text or token ids"),
        ({"target": ""}, AssertionError, "at least one token"),
        ({"target": torch.zeros(2, 2, dtype=torch.int64)}, AssertionError, "at least one token"),
        ({"target": "and", "gen_args": {"max_new_tokens": 2}}, AssertionError, "only without a target"),
        ({"target": "and", "num_trials": 0}, AssertionError, "num_trials"),
    ],
)
def test_mistakes_are_told(prompt, options, fault, message):
    with pytest.raises(fault, match=message):
        LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, **options)


def test_methods_and_models_that_do_not_fit_are_told(prompt):
    for method in (Saliency(llama()), LayerFeatureAblation(llama(), llama().model.embed_tokens)):
        with pytest.raises(InputTypeError, match="perturbation method at the input"):
            LLMAttribution(method, tokenizer())
    with pytest.raises(InputError, match="'log_prob' or 'prob'"):
        LLMAttribution(FeatureAblation(llama()), tokenizer(), attr_target="logit")
    with pytest.raises(InputError, match=r"no generate\(\)"):
        LLMAttribution(FeatureAblation(nn.Linear(2, 2)), tokenizer()).attribute(prompt)

    def pooled(input_ids: Tensor) -> Tensor:
        return torch.zeros(len(input_ids), 5)

    with pytest.raises(OutputError, match="logits"):
        LLMAttribution(FeatureAblation(pooled), tokenizer()).attribute(prompt, target=TARGET)
