"""Attribution of what a language model says to the tokens of its prompt, by gradients at the embedding layer."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.attr.base import Attribution, GradientAttribution, LayerAttribution
from captum.attr.text.continuation import READS_AHEAD, logits_of, same_scores, target_scores
from captum.attr.text.inputs import InterpretableInput, TextTokenInput, Tokenizer
from captum.attr.text.llm import BaseLLMAttribution
from captum.attr.text.llm_result import LLMAttributionResult
from captum.attr.text.wording import tokens_of
from captum.errors import InputError, InputTypeError, OutputError
from captum.log import log_usage

__all__ = ["GradientForwardFunc", "LLMGradientAttribution"]


class LLMGradientAttribution(BaseLLMAttribution):
    r"""Which tokens of a prompt made a language model say the target, by a gradient method at its embedding layer.

    For each token of the target the score is :math:`\log p(y_t \mid x, y_{<t})`; attributions are summed over the
    embedding dim, and over the target's tokens for the whole. One call explains all tokens: each is a row of the batch.

    Args:
        attr_method: a gradient method made with the language model and its embedding layer:
            :class:`~captum.attr.LayerIntegratedGradients`, :class:`~captum.attr.LayerGradientXActivation`,
            :class:`~captum.attr.LayerGradientShap` …
        tokenizer: the model's tokenizer.

    Raises:
        InputTypeError: for other methods.
    """

    def __init__(self, attr_method: Attribution, tokenizer: Tokenizer) -> None:
        if not isinstance(attr_method, LayerAttribution) or not isinstance(attr_method, GradientAttribution):
            message = (
                "Expected a gradient method at a layer, such as LayerIntegratedGradients(model, embedding), got "
                f"{type(attr_method).__name__}. For perturbation methods use LLMAttribution."
            )
            raise InputTypeError(message)
        super().__init__(attr_method, tokenizer)

    @property
    def multiplies_by_inputs(self) -> bool:
        """That of the method."""
        return self.attr_method.multiplies_by_inputs

    @log_usage()
    def attribute(
        self,
        inp: InterpretableInput,
        target: str | Tensor | None = None,
        gen_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> LLMAttributionResult:
        """Attribution of the target to the tokens of a prompt.

        Args:
            inp: the prompt, a :class:`TextTokenInput`; its skipped tokens stay as they are along the path.
            target: what the model said, as a text or token ids ``(T,)``; None (default) to let it generate.
            gen_args: arguments of ``model.generate`` without a target; None (default) for up to 25 tokens, greedily.
            kwargs: further arguments of the method's ``attribute``; token ids as ``baselines``, for all tokens that
                have a score.

        Returns:
            The attribution of the whole target and of each of its tokens, in nats.

        Raises:
            InputError: when arguments do not fit.
            OutputError: when the model is not causal, and the target has several tokens.
        """
        if not isinstance(inp, TextTokenInput):
            message = f"Expected a TextTokenInput, whose tokens have embeddings, got {type(inp).__name__}."
            raise InputTypeError(message)
        ids = self._target_ids(inp, target, gen_args)
        method: Any = copy.copy(self.attr_method)
        method.forward_func = score = _TokenScores(self.model, inp, ids.to(self.device), self.device)
        score.expect_causal()
        rows = inp.itp_tensor.to(self.device).expand(len(ids), -1).contiguous()
        values: Any = method.attribute(rows, target=list(range(len(ids))), **kwargs)
        if isinstance(values, tuple) and len(values) == 2 and kwargs.get("return_convergence_delta"):
            values = values[0]
        if not isinstance(values, Tensor) or values.dim() != 3 or len(values) != len(ids):
            message = (
                f"Expected attributions of an embedding layer, ({len(ids)}, L, D), got {describe(values)}: choose the "
                "layer that looks the tokens up."
            )
            raise InputError(message)
        each = values.detach().sum(2)[:, score.places.to(values.device)]
        return LLMAttributionResult(
            input_tokens=inp.values,
            output_tokens=tokens_of(ids, self.tokenizer),
            seq_attr=each.sum(0).cpu(),
            token_attr=each.cpu(),
            inp=inp,
        )


class _TokenScores(nn.Module):
    """Log-probabilities ``(n, T)`` of the target's tokens as a function of the ids ``(n, M)`` that have a score."""

    def __init__(self, model: Any, inp: TextTokenInput, target: Tensor, device: torch.device) -> None:
        super().__init__()
        self.model = model
        self._whole = torch.cat([inp.inp_tensor[0].to(device), target[:-1]])
        kept = torch.ones_like(inp.inp_tensor, dtype=torch.bool) if inp.itp_mask is None else inp.itp_mask
        self.places = kept[0].nonzero()[:, 0].to(device)
        self._prompt = inp.inp_tensor.to(device)
        self._target = target

    def expect_causal(self) -> None:
        """Refuse models that read the target's tokens before they come: gradients would pass through them."""
        if len(self._target) == 1:
            return
        with torch.no_grad():
            alone = logits_of(self.model(input_ids=self._prompt), 1)[:, -1:]
            beside = self(self._prompt[:, self.places])
        if not same_scores(beside[:, :1], target_scores(alone, self._target[:1]), alone.dtype):
            raise OutputError(READS_AHEAD)

    def forward(self, ids: Tensor) -> Tensor:
        """Run the model on prompts with these ids in their places, and the target after them."""
        whole = self._whole.expand(len(ids), -1).clone()
        whole[:, self.places] = ids
        logits = logits_of(self.model(input_ids=whole), len(ids))
        return target_scores(logits[:, -len(self._target) :], self._target)


class GradientForwardFunc(nn.Module):
    """The log-probability of one token of a target, as a function of the ids of a prompt.

    Args:
        attr: the attribution whose model is run.
    """

    def __init__(self, attr: LLMGradientAttribution) -> None:
        super().__init__()
        self.attr = attr
        self.model = attr.model

    def forward(
        self, perturbed_tensor: Tensor, inp: TextTokenInput, target_tokens: Tensor, cur_target_idx: int
    ) -> Tensor:
        """``(1,)``.

        Args:
            perturbed_tensor: ids ``(1, M)`` of the tokens that have a score.
            inp: the prompt.
            target_tokens: ids ``(T,)`` of the target.
            cur_target_idx: which of them.
        """
        device = self.attr.device
        until = target_tokens[: cur_target_idx + 1].to(device)
        return _TokenScores(self.model, inp, until, device)(perturbed_tensor.to(device))[:, -1]
