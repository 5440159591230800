"""Attribution of what a language model says to parts of its prompt."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from captum._engine.values import describe
from captum.attr.base import Attribution, InternalAttribution, PerturbationAttribution
from captum.attr.text.continuation import Continuation
from captum.attr.text.inputs import InterpretableInput, Tokenizer
from captum.attr.text.llm_result import LLMAttributionResult
from captum.attr.text.wording import tokens_of
from captum.errors import InputError, InputTypeError
from captum.log import log_usage

__all__ = ["DEFAULT_GEN_ARGS", "BaseLLMAttribution", "LLMAttribution"]

DEFAULT_GEN_ARGS: dict[str, Any] = {"max_new_tokens": 25, "do_sample": False, "temperature": None, "top_p": None}
Inspect = Callable[[str, str, list[float]], object]


class Scores(Protocol):
    """Log-probabilities ``(n, T)`` of the target's tokens after prompts."""

    def __call__(self, prompts: list[Any], /) -> Tensor:
        """Score prompts."""
        ...


class BaseLLMAttribution(Attribution):
    """What attribution of language models shares.

    Args:
        attr_method: an attribution method that was made with the language model.
        tokenizer: the model's tokenizer.

    Attributes:
        model: the language model.
        device: where it is.
        attr_method: a copy of the method; the user's own is not changed.
    """

    def __init__(self, attr_method: Attribution, tokenizer: Tokenizer) -> None:
        super().__init__(attr_method.forward_func)
        self.model = attr_method.forward_func
        self.tokenizer = tokenizer
        self.device = device_of(self.model)
        self.attr_method = copy.copy(attr_method)

    def _target_ids(self, inp: InterpretableInput, target: Any, gen_args: dict[str, Any] | None) -> Tensor:
        """Ids ``(T,)`` of the target: what the user gave, or what the model generates."""
        if target is None:
            ids = self._generated(inp, DEFAULT_GEN_ARGS if gen_args is None else gen_args)
        elif gen_args:
            message = "Expected gen_args only without a target: they say how the model generates one."
            raise InputError(message)
        elif isinstance(target, str):
            ids = torch.as_tensor(self.tokenizer.encode(target, add_special_tokens=False)).reshape(-1).long()
        elif isinstance(target, Tensor) and not target.is_floating_point():
            ids = target.reshape(-1).long() if target.dim() == 2 and len(target) == 1 else target.long()
        else:
            message = f"Expected the target as a text or token ids (T,), got {describe(target)}."
            raise InputTypeError(message)
        if ids.dim() != 1 or not len(ids):
            message = f"Expected a target of at least one token, (T,), got token ids of shape {tuple(ids.shape)}."
            raise InputError(message)
        return ids

    def _generated(self, inp: InterpretableInput, gen_args: dict[str, Any]) -> Tensor:
        """Ids of what the model says to the unchanged prompt."""
        generate = getattr(self.model, "generate", None)
        if not callable(generate):
            message = f"{type(self.model).__name__} has no generate(): pass a target, the text that is explained."
            raise InputError(message)
        prompt = inp.to_model_input()
        if isinstance(prompt, Mapping):
            given = {k: v.to(self.device) if isinstance(v, Tensor) else v for k, v in prompt.items()}
        else:
            encoded = self.tokenizer.encode(prompt, return_tensors="pt") if isinstance(prompt, str) else prompt
            ids = torch.as_tensor(encoded).reshape(1, -1).to(self.device)
            given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        with torch.no_grad():
            said = torch.as_tensor(generate(**given, **gen_args))
        return said[0, given["input_ids"].shape[1] :].cpu()


class LLMAttribution(BaseLLMAttribution):
    r"""Which parts of a prompt made a language model say the target, by a perturbation method.

    The score of a perturbed prompt is :math:`\log p(y \mid x) = \sum_t \log p(y_t \mid x, y_{<t})`, and that of each
    token of the target; parts of the prompt are those of an :class:`InterpretableInput`. Perturbed prompts are scored
    in batches, target included, without generation steps.

    Args:
        attr_method: a perturbation method made with the language model: :class:`~captum.attr.FeatureAblation`,
            :class:`~captum.attr.ShapleyValueSampling`, :class:`~captum.attr.ShapleyValues`, :class:`~captum.attr.Lime`,
            :class:`~captum.attr.KernelShap` … Surrogates (the last two) explain the whole target only.
        tokenizer: the model's tokenizer.
        attr_target: ``"log_prob"`` (default), or ``"prob"`` for probabilities.

    Raises:
        InputError: for other methods, such as those that need gradients.
    """

    def __init__(self, attr_method: Attribution, tokenizer: Tokenizer, attr_target: str = "log_prob") -> None:
        if not isinstance(attr_method, PerturbationAttribution) or isinstance(attr_method, InternalAttribution):
            message = (
                f"Expected a perturbation method at the input, such as FeatureAblation or KernelShap, got "
                f"{type(attr_method).__name__}. For LayerIntegratedGradients and its kin use LLMGradientAttribution."
            )
            raise InputTypeError(message)
        if attr_target not in ("log_prob", "prob"):
            message = f"Expected attr_target to be 'log_prob' or 'prob', got {attr_target!r}."
            raise InputError(message)
        super().__init__(attr_method, tokenizer)
        self.attr_target = attr_target
        self.include_per_token_attr = not hasattr(attr_method, "interpretable_model")

    @log_usage()
    def attribute(
        self,
        inp: InterpretableInput,
        target: str | Tensor | None = None,
        num_trials: int = 1,
        gen_args: dict[str, Any] | None = None,
        use_cached_outputs: bool = True,
        _inspect_forward: Inspect | None = None,
        forward_in_tokens: bool = True,
        **kwargs: Any,
    ) -> LLMAttributionResult:
        """Attribution of the target to the features of a prompt.

        Args:
            inp: the prompt and its features, such as :class:`TextTemplateInput` or :class:`TextTokenInput`.
            target: what the model said, as a text or token ids ``(T,)``; None (default) to let it generate.
            num_trials: how often the attribution is repeated and averaged, for baselines that are drawn (default 1).
            gen_args: arguments of ``model.generate`` without a target; None (default) for up to 25 tokens, greedily.
            use_cached_outputs: accepted for compatibility; numbers do not depend on it.
            _inspect_forward: called with each prompt that is scored, the target, and probabilities: of the whole
                target, then of its tokens.
            forward_in_tokens: accepted for compatibility: one forward pass scores all tokens of many prompts.
            kwargs: further arguments of the method's ``attribute``, such as ``n_samples`` or ``return_std_error=True``.

        Returns:
            The attribution of the whole target and of each of its tokens, in nats (differences of log-probabilities) or
            in probability.

        Raises:
            InputError: when arguments do not fit.
            InputTypeError: when the target is neither a text nor token ids.
        """
        del use_cached_outputs, forward_in_tokens
        if isinstance(num_trials, bool) or not isinstance(num_trials, int) or num_trials < 1:  # pyright: ignore[reportUnnecessaryIsInstance]  # users pass floats
            message = f"Expected num_trials to be an int of at least 1, got {num_trials!r}."
            raise InputError(message)
        ids = self._target_ids(inp, target, gen_args)
        score = _Perturbed(inp, self._scores(ids), self.attr_target, self.include_per_token_attr)
        if _inspect_forward is not None:
            score.show_to(_inspect_forward, self._text_of, self.tokenizer.decode(ids.tolist()))
        method = copy.copy(self.attr_method)
        method.forward_func = score
        trials = [method.attribute(inp.to_tensor(), **kwargs) for _ in range(num_trials)]
        with_errors = isinstance(trials[0], tuple)
        values = [t[0] if with_errors else t for t in trials]
        result = self._result(inp, ids, torch.stack(values).mean(0))
        if with_errors:
            # trials are independent; their mean has the error of one over the root of their number
            errors = torch.stack([t[1] for t in trials]).square().mean(0).div(num_trials).sqrt()
            result.seq_std_error, result.token_std_error = self._parts(inp, errors)
        return result

    def _scores(self, ids: Tensor) -> Scores:
        """What scores prompts by this target."""
        return Continuation(self.model, self.tokenizer, ids, self.device)

    def _text_of(self, prompt: Any) -> str:
        if isinstance(prompt, str):
            return prompt
        ids = prompt["input_ids"] if isinstance(prompt, Mapping) else prompt
        return self.tokenizer.decode(torch.as_tensor(ids).reshape(-1).tolist())

    def _result(self, inp: InterpretableInput, ids: Tensor, values: Tensor) -> LLMAttributionResult:
        whole, each = self._parts(inp, values)
        return LLMAttributionResult(
            input_tokens=inp.values,
            output_tokens=tokens_of(ids, self.tokenizer),
            seq_attr=whole,
            token_attr=each,
            inp=inp,
        )

    def _parts(self, inp: InterpretableInput, values: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores of the whole target ``(M,)``, and of its tokens ``(T, M)`` where there are some."""
        features = torch.as_tensor(values).detach().reshape(-1, inp.n_itp_features)
        shown = inp.format_attr(features if features.is_floating_point() else features.to(torch.get_default_dtype()))
        return shown[0], shown[1:] if self.include_per_token_attr else None


class _Perturbed:
    """The function of features ``(n, M)`` that perturbation methods explain.

    Args:
        inp: makes prompts of features.
        scores: log-probabilities of the target's tokens after prompts.
        attr_target: ``"log_prob"`` or ``"prob"``.
        per_token: give ``(n, 1 + T)``: the whole target and its tokens; else ``(n,)``.
    """

    def __init__(self, inp: InterpretableInput, scores: Scores, attr_target: str, per_token: bool) -> None:
        self._inp = inp
        self._scores = scores
        self._attr_target = attr_target
        self._per_token = per_token
        self._inspect: tuple[Inspect, Callable[[Any], str], str] | None = None
        self._shown: set[str] = set()

    def show_to(self, inspect: Inspect, text_of: Callable[[Any], str], response: str) -> None:
        """Call ``inspect`` once with each prompt, the target, and the probabilities of the whole and its tokens."""
        self._inspect = (inspect, text_of, response)

    def _show(self, prompts: list[Any], scores: Tensor) -> None:
        if self._inspect is None:
            return
        inspect, text_of, response = self._inspect
        for prompt, row in zip(prompts, scores.double(), strict=True):
            text = text_of(prompt)
            if text not in self._shown:
                self._shown.add(text)
                inspect(text, response, [float(row.sum().exp()), *row.exp().tolist()])

    def __call__(self, features: Tensor) -> Tensor:
        prompts = [self._inp.to_model_input(row[None]) for row in features]
        each = self._scores(prompts)
        values = torch.cat([each.sum(1, keepdim=True), each], 1)
        values = values.exp() if self._attr_target == "prob" else values
        if self._inspect is not None:
            self._show(prompts, each)
        return values if self._per_token else values[:, 0]


def device_of(model: object) -> torch.device:
    """Where a model is: what it says itself, or where its first parameter is."""
    own = getattr(model, "device", None)
    if isinstance(own, torch.device):
        return own
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    return first.device if first is not None else torch.device("cpu")
