"""Attribution of what a language model on a server says: it gives text and log-probabilities, and nothing else."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from captum.attr.base import Attribution
from captum.attr.text.inputs import InterpretableInput, Tokenizer
from captum.attr.text.llm import DEFAULT_GEN_ARGS, LLMAttribution, Scores
from captum.errors import InputError, InputTypeError, MissingDependencyError

__all__ = ["RemoteLLMAttribution", "RemoteLLMProvider", "VLLMProvider"]


class RemoteLLMProvider(ABC):
    """A language model on a server.

    Attributes:
        api_url: where it is.
    """

    api_url: str

    @abstractmethod
    def generate(self, prompt: str, **gen_args: Any) -> str:
        """What the model says to a prompt.

        Args:
            prompt: the prompt.
            gen_args: as for ``generate`` of ``transformers``: ``max_new_tokens``, ``temperature`` …
        """

    @abstractmethod
    def get_logprobs(self, input_prompt: str, target_str: str, tokenizer: Tokenizer | None = None) -> list[float]:
        """Log-probabilities of the target's tokens after a prompt, one for each token.

        Args:
            input_prompt: the prompt.
            target_str: the target.
            tokenizer: the model's tokenizer.
        """


class VLLMProvider(RemoteLLMProvider):
    """A vLLM server, through its OpenAI-compatible interface; needs the package ``openai``.

    The key is read from ``OPENAI_API_KEY`` (``"EMPTY"`` without one).

    Args:
        api_url: base address, such as ``http://localhost:8000/v1``.
        model_name: which of the served models; None (default) for the first.

    Raises:
        MissingDependencyError: without the package ``openai``.
        ValueError: for an empty address, or a server without models.
        ConnectionError: when the server does not answer.
    """

    def __init__(self, api_url: str, model_name: str | None = None) -> None:
        if not api_url or not api_url.strip():
            message = "Expected the address of a server as api_url, such as 'http://localhost:8000/v1', got none."
            raise InputError(message)
        try:
            from openai import OpenAI  # pyright: ignore[reportMissingImports]  # an optional package
        except ImportError as fault:
            message = "VLLMProvider needs the package openai: pip install openai."
            raise MissingDependencyError(message) from fault
        self.api_url = api_url
        self.client: Any = OpenAI(base_url=api_url, api_key=os.environ.get("OPENAI_API_KEY", "EMPTY"))
        self.model_name = model_name or self._first_model()

    def _first_model(self) -> str:
        try:
            served = list(self.client.models.list().data)
        except Exception as fault:
            message = f"The server at {self.api_url} did not say which models it has: {fault}"
            raise ConnectionError(message) from fault
        if not served:
            message = f"The server at {self.api_url} has no models: name one with model_name."
            raise InputError(message)
        return str(served[0].id)

    def generate(self, prompt: str, **gen_args: Any) -> str:
        """What the model says to a prompt; see the base class."""
        given = {k: v for k, v in gen_args.items() if v is not None and k != "do_sample"}
        given.setdefault("max_tokens", given.pop("max_new_tokens", DEFAULT_GEN_ARGS["max_new_tokens"]))
        given.pop("max_new_tokens", None)
        if gen_args.get("do_sample") is False:
            given.setdefault("temperature", 0)
        said = self._complete(prompt, given)
        return str(said.choices[0].text)

    def get_logprobs(self, input_prompt: str, target_str: str, tokenizer: Tokenizer | None = None) -> list[float]:
        """Log-probabilities of the target's tokens after a prompt; see the base class."""
        if tokenizer is None:
            message = "Expected the model's tokenizer: it says how many tokens the target has."
            raise InputError(message)
        count = len(list(tokenizer.encode(target_str, add_special_tokens=False)))
        if not count:
            message = "Expected a target of at least one token."
            raise InputError(message)
        given = {"temperature": 0, "max_tokens": 1, "extra_body": {"prompt_logprobs": 0}}
        said = self._complete(input_prompt + target_str, given)
        listed: Any = getattr(said.choices[0], "prompt_logprobs", None)
        if not listed or len(listed) < count:
            message = f"Expected log-probabilities of {count} prompt tokens from the server, got {len(listed or ())}."
            raise InputError(message)
        return [_logprob(entry) for entry in listed[-count:]]

    def _complete(self, prompt: str, given: Mapping[str, Any]) -> Any:
        try:
            said: Any = self.client.completions.create(model=self.model_name, prompt=prompt, **given)
        except (ConnectionError, TimeoutError):
            raise
        except Exception as fault:
            kinds = {kind.__name__ for kind in type(fault).__mro__}
            if kinds & {"APIConnectionError", "APITimeoutError"}:
                message = f"The server at {self.api_url} did not answer: {fault}"
                raise ConnectionError(message) from fault
            raise
        if not getattr(said, "choices", None):
            message = f"Expected a completion from the server at {self.api_url}, got an answer without choices."
            raise InputError(message)
        return said


def _logprob(entry: Any) -> float:
    """The log-probability of a prompt's token: its entry maps the token's id to it."""
    if not entry:
        message = "Expected a log-probability for each token of the target, got an entry without any."
        raise InputError(message)
    found = next(iter(entry.values()))
    return float(found["logprob"] if isinstance(found, Mapping) else found.logprob)


class _Placeholder:
    """Stands where a method wants its model; a provider answers instead."""

    device = torch.device("cpu")

    def __call__(self, *_: Any, **__: Any) -> Tensor:
        message = "The placeholder of a remote model cannot be run: give the method to RemoteLLMAttribution."
        raise InputError(message)


class RemoteLLMAttribution(LLMAttribution):
    """Which parts of a prompt made a language model on a server say the target, by a perturbation method.

    Args:
        attr_method: a perturbation method made with :attr:`placeholder_model`, as
            ``FeatureAblation(RemoteLLMAttribution.placeholder_model)``.
        tokenizer: the model's tokenizer.
        provider: the server.
        attr_target: ``"log_prob"`` (default), or ``"prob"`` for probabilities.

    Raises:
        InputError: for methods that need gradients.
    """

    placeholder_model = _Placeholder()

    def __init__(
        self,
        attr_method: Attribution,
        tokenizer: Tokenizer,
        provider: RemoteLLMProvider,
        attr_target: str = "log_prob",
    ) -> None:
        super().__init__(attr_method, tokenizer, attr_target)
        self.provider = provider

    def _generated(self, inp: InterpretableInput, gen_args: dict[str, Any]) -> Tensor:
        said = self.provider.generate(self._text_of(inp.to_model_input()), **gen_args)
        return torch.as_tensor(self.tokenizer.encode(said, add_special_tokens=False)).reshape(-1).long()

    def _scores(self, ids: Tensor) -> Scores:
        target = self.tokenizer.decode(ids.tolist())
        known: dict[str, Tensor] = {}

        def score(prompts: list[Any]) -> Tensor:
            return torch.stack([self._asked(self._prompt_text(p), target, len(ids), known) for p in prompts])

        return score

    def _asked(self, prompt: str, target: str, count: int, known: dict[str, Tensor]) -> Tensor:
        """Log-probabilities ``(T,)``; each prompt is asked about once."""
        if prompt not in known:
            listed = self.provider.get_logprobs(prompt, target, self.tokenizer)
            if len(listed) != count:
                message = f"Expected {count} log-probabilities, one per token of the target, got {len(listed)}."
                raise InputError(message)
            known[prompt] = torch.tensor(listed, dtype=torch.get_default_dtype())
        return known[prompt]

    def _prompt_text(self, prompt: Any) -> str:
        if isinstance(prompt, Mapping):
            message = "Expected prompts of text: a remote model takes no other inputs."
            raise InputTypeError(message)
        return self._text_of(prompt)
