"""Attribution of a language model's words by gradients at its embeddings, against autograd in plain loops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import (
    FeatureAblation,
    LayerGradientShap,
    LayerGradientXActivation,
    LayerIntegratedGradients,
    LLMGradientAttribution,
    Saliency,
    TextTemplateInput,
    TextTokenInput,
)
from captum.attr.text.llm_gradient import GradientForwardFunc
from captum.errors import InputError, InputTypeError, OutputError
from tests.unit.attr.text.llm_toys import llama, log_probs, tokenizer

TARGET = [13, 14, 10]
EMBEDDING = llama().model.embed_tokens


def prompt_of(skip: bool) -> TextTokenInput:
    return TextTokenInput("Ann lives in Oslo", tokenizer(), skip_tokens=["<s>"] if skip else None)


def gradient_times_embedding(prompt: TextTokenInput, upto: int, share: float = 1.0) -> Tensor:
    """Gradient of one token's log-probability by the prompt's embeddings, ``(L, D)``, in double precision of torch."""
    whole = torch.cat([prompt.inp_tensor, torch.tensor([TARGET[:upto]], dtype=torch.int64)], 1)
    start = whole.clone()
    free = torch.ones_like(prompt.inp_tensor, dtype=torch.bool) if prompt.itp_mask is None else prompt.itp_mask
    start[:, : prompt.inp_tensor.shape[1]][free] = 0
    ends = EMBEDDING(start), EMBEDDING(whole)
    point = (ends[0] + share * (ends[1] - ends[0])).detach().requires_grad_()
    score = llama()(inputs_embeds=point).logits[0, -1].log_softmax(-1)[TARGET[upto]]
    (slope,) = torch.autograd.grad(score, point)
    return torch.stack([slope[0], (ends[1] - ends[0])[0].detach(), ends[1][0].detach()])


@pytest.mark.parametrize("skip", [True, False])
def test_gradient_times_activation(skip):
    prompt = prompt_of(skip)
    result = LLMGradientAttribution(LayerGradientXActivation(llama(), EMBEDDING), tokenizer()).attribute(
        prompt, target=torch.tensor(TARGET)
    )
    assert result.token_attr is not None
    for token in range(len(TARGET)):
        slope, _, value = gradient_times_embedding(prompt, token)
        expected = (slope * value).sum(1)[: prompt.inp_tensor.shape[1]][int(skip) :]
        torch.testing.assert_close(result.token_attr[token], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(result.seq_attr, result.token_attr.sum(0))
    assert result.inp is prompt


@pytest.mark.parametrize("skip", [True, False])
def test_integrated_gradients_are_complete_for_each_token(skip):
    prompt = prompt_of(skip)
    result = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer()).attribute(
        prompt, target="and then ran", n_steps=200, baselines=torch.full_like(prompt.itp_tensor, 2)
    )
    other = torch.tensor([[1 if skip else 2, 2, 2, 2, 2]])
    rise = log_probs(prompt.inp_tensor, TARGET) - log_probs(other, TARGET)
    assert result.token_attr is not None
    torch.testing.assert_close(result.token_attr.sum(1), rise, rtol=0.02, atol=0.02)


def test_integrated_gradients_by_a_sum_along_the_path():
    prompt = prompt_of(skip=True)
    result = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer()).attribute(
        prompt, target=torch.tensor(TARGET), n_steps=8, method="riemann_middle"
    )
    assert result.token_attr is not None
    for token in range(len(TARGET)):
        total = torch.zeros(5 + token)
        for step in range(8):
            slope, change, _ = gradient_times_embedding(prompt, token, (step + 0.5) / 8)
            total += (slope * change).sum(1) / 8
        torch.testing.assert_close(result.token_attr[token], total[1:5], rtol=1e-3, atol=1e-4)


def test_baselines_are_ids_of_the_tokens_that_have_a_score():
    prompt = prompt_of(skip=True)
    method = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer())
    same = method.attribute(prompt, target="and", baselines=prompt.itp_tensor, n_steps=4)
    assert float(same.seq_attr.abs().max()) == 0
    one = method.attribute(prompt, target="and", baselines=torch.tensor([[18, 19, 20, 2]]), n_steps=4)
    assert one.seq_attr.nonzero().flatten().tolist() == [0, 1, 2, 3] or one.seq_attr.shape == (4,)
    shap = LLMGradientAttribution(LayerGradientShap(llama(), EMBEDDING), tokenizer())
    found = shap.attribute(prompt, target="and then", baselines=torch.zeros(3, 4, dtype=torch.int64))
    assert found.seq_attr.shape == (4,)


def test_the_model_speaks_without_a_target():
    method = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer())
    found = method.attribute(prompt_of(skip=True), gen_args={"max_new_tokens": 2, "do_sample": False}, n_steps=4)
    assert len(found.output_tokens) == 2


def test_a_delta_may_be_asked_for_and_is_left_out():
    method = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer())
    plain = method.attribute(prompt_of(skip=True), target="and then", n_steps=4)
    asked = method.attribute(prompt_of(skip=True), target="and then", n_steps=4, return_convergence_delta=True)
    torch.testing.assert_close(asked.seq_attr, plain.seq_attr)


def test_one_token_as_a_function_of_ids():
    method = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer())
    prompt = prompt_of(skip=True)
    score = GradientForwardFunc(method)
    found = [float(score(prompt.itp_tensor, prompt, torch.tensor(TARGET), t).detach()) for t in range(3)]
    assert found == pytest.approx(log_probs(prompt.inp_tensor, TARGET).tolist(), abs=1e-4)


def test_models_that_read_ahead_are_told():
    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.head = nn.Embedding(40, 8), nn.Linear(8, 40)

        def forward(self, input_ids: Tensor) -> Tensor:
            found = self.words(input_ids)
            return self.head(found + found.mean(1, keepdim=True))

    model = Encoder()
    method = LLMGradientAttribution(LayerGradientXActivation(model, model.words), tokenizer())
    assert method.attribute(prompt_of(skip=True), target="and").seq_attr.shape == (4,)
    with pytest.raises(OutputError, match="reads ahead"):
        method.attribute(prompt_of(skip=True), target="and then")


def test_what_does_not_fit_is_told():
    for method in (FeatureAblation(llama()), Saliency(llama())):
        with pytest.raises(InputTypeError, match="gradient method at a layer"):
            LLMGradientAttribution(method, tokenizer())
    method = LLMGradientAttribution(LayerIntegratedGradients(llama(), EMBEDDING), tokenizer())
    with pytest.raises(AssertionError, match="TextTokenInput"):
        method.attribute(TextTemplateInput("{}", ["Ann"]), target="and")
    head = LLMGradientAttribution(LayerGradientXActivation(llama(), nn.ModuleList([EMBEDDING])), tokenizer())
    with pytest.raises((InputError, NotImplementedError, RuntimeError)):
        head.attribute(prompt_of(skip=True), target="and")
