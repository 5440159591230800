"""Continuation: log-probabilities of given target tokens after prompts, many prompts in one forward pass.

A causal model reads no token after the one that it predicts, so prompts of different lengths are padded on the right,
with their target appended, and every target token is scored in the same pass: no generation step, and no cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.score import read_output
from captum._engine.sweep import ran_out_of_memory, release_memory
from captum._engine.values import describe
from captum.attr.text.inputs import Tokenizer
from captum.errors import InputTypeError, OutputError

#: Tokens of one forward pass, padding included; of the first one, which tells how large the logits are.
MOST_TOKENS = 4096
FIRST_TOKENS = 1024
#: Elements of the logits of one forward pass.
MOST_LOGITS = 1 << 25
#: Scores of prompts that are remembered within a call.
REMEMBERED = 1 << 16


class Continuation:
    """Scores prompts by how likely the target follows them.

    Args:
        model: a causal language model: takes ``input_ids`` and, if it can, ``attention_mask``; returns logits.
        tokenizer: makes ids of prompts that are texts.
        target: ids of the target, ``(T,)``.
        device: where the model is.
    """

    def __init__(self, model: Callable[..., Any], tokenizer: Tokenizer, target: Tensor, device: torch.device) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._device = device
        self.target = target.to(device)
        self._accepts = _accepted(model)
        self._known: dict[bytes, Tensor] = {}
        self._remembers = not (isinstance(model, nn.Module) and model.training)
        self._most = FIRST_TOKENS
        self._measured = False

    def __call__(self, prompts: Sequence[Any]) -> Tensor:
        """Log-probabilities ``(n, T)`` of the target's tokens, each given its prompt and the ones before; on the CPU.

        Args:
            prompts: texts, ids ``(1, L)``, or mappings of the model's inputs with ``input_ids``.
        """
        found: list[Tensor | None] = [None] * len(prompts)
        waiting: dict[bytes, list[int]] = {}
        ids_of: dict[bytes, Tensor] = {}
        for place, prompt in enumerate(prompts):
            if isinstance(prompt, Mapping):
                found[place] = self._with_inputs(dict(prompt))
                continue
            ids = self.ids(prompt)
            key = ids.numpy().tobytes() if self._remembers else str(place).encode()
            if key in self._known:
                found[place] = self._known[key]
            else:
                waiting.setdefault(key, []).append(place)
                ids_of[key] = ids
        for key, scores in zip(ids_of, self._score(list(ids_of.values())), strict=True):
            for place in waiting[key]:
                found[place] = scores
            if self._remembers and len(self._known) < REMEMBERED:
                self._known[key] = scores
        return torch.stack([scores for scores in found if scores is not None])

    def ids(self, prompt: Any) -> Tensor:
        """Ids ``(L,)`` of a prompt, on the CPU."""
        encoded = self._tokenizer.encode(prompt, return_tensors="pt") if isinstance(prompt, str) else prompt
        ids = torch.as_tensor(encoded)
        if ids.is_floating_point() or ids.dim() not in (1, 2) or (ids.dim() == 2 and len(ids) != 1) or not ids.numel():
            message = f"Expected a prompt as a text or token ids (1, L) with L > 0, got {describe(prompt)}."
            raise InputTypeError(message)
        return ids.reshape(-1).long().cpu()

    def _score(self, prompts: list[Tensor]) -> list[Tensor]:
        """Scores of prompts, in passes that fit."""
        scores: list[Tensor] = []
        while len(scores) < len(prompts):
            rest = prompts[len(scores) :]
            count = self._fitting(rest)
            try:
                scores += self._pass(rest[:count])
            except (RuntimeError, MemoryError) as fault:
                if count == 1 or not ran_out_of_memory(fault):
                    raise
                release_memory()
                self._most = max(1, self._most // 2)
        return scores

    def _fitting(self, prompts: list[Tensor]) -> int:
        """How many of the first prompts one pass takes."""
        if (
            "attention_mask" not in self._accepts
        ):  # nothing tells the model what is padding: only equal lengths together
            same = next((i for i, p in enumerate(prompts) if len(p) != len(prompts[0])), len(prompts))
            prompts = prompts[:same]
        longest = 0
        for count, prompt in enumerate(prompts):
            longest = max(longest, len(prompt) + len(self.target))
            if count and longest * (count + 1) > self._most:
                return count
        return len(prompts)

    def _pass(self, prompts: list[Tensor]) -> list[Tensor]:
        length = max(map(len, prompts)) + len(self.target)
        ids = torch.zeros((len(prompts), length), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        target = self.target.cpu()
        for row, prompt in enumerate(prompts):
            whole = torch.cat([prompt, target])
            ids[row, : len(whole)] = whole
            mask[row, : len(whole)] = 1
        starts = torch.tensor([len(p) - 1 for p in prompts])
        steps = torch.arange(len(target))
        places = starts[:, None] + steps
        wanted = torch.arange(int(places.min()), int(places.max()) + 1)
        more: dict[str, Any] = {"attention_mask": mask.to(self._device), "use_cache": False}
        keep = "logits_to_keep" in self._accepts and len(wanted) < length
        if keep:
            more["logits_to_keep"] = wanted.to(self._device)
        logits = self._logits(ids.to(self._device), more)
        if not self._measured:
            self._measured = True
            self._most = max(1, min(MOST_TOKENS, MOST_LOGITS * length // logits.numel() * len(prompts)))
        shift = int(wanted[0]) if keep and logits.shape[1] == len(wanted) else 0
        rows = torch.arange(len(prompts))[:, None]
        own = logits[rows.to(logits.device), (places - shift).to(logits.device)]
        return list(self._of_target(own))

    def _with_inputs(self, inputs: dict[str, Any]) -> Tensor:
        """Scores of one prompt with further inputs, such as the pixels of an image."""
        ids = torch.as_tensor(inputs.pop("input_ids")).reshape(1, -1).to(self._device)
        target = self.target.reshape(1, -1)
        whole = torch.cat([ids, target], 1)
        more = {k: v.to(self._device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            if isinstance(more.get(name), Tensor):
                fill = torch.full_like(target, 1 if name == "attention_mask" else 0, dtype=more[name].dtype)
                more[name] = torch.cat([more[name], fill], 1)
        more.setdefault("attention_mask", torch.ones_like(whole))
        more.setdefault("use_cache", False)
        logits = self._logits(whole, more)
        return self._of_target(logits[:, -len(self.target) - 1 : -1])[0]

    def _logits(self, ids: Tensor, more: dict[str, Any]) -> Tensor:
        """Logits ``(n, L, V)``."""
        known = {k: v for k, v in more.items() if k in self._accepts or "**" in self._accepts}
        with torch.no_grad():
            return logits_of(self._model(input_ids=ids, **known), len(ids))

    def _of_target(self, logits: Tensor) -> Tensor:
        """Log-probabilities ``(n, T)`` of the target's tokens from logits ``(n, T, V)``, in float32 at least."""
        precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
        chances = precise.log_softmax(-1)
        ids = self.target.to(chances.device).expand(len(chances), -1)
        return chances.gather(2, ids[:, :, None])[:, :, 0].cpu()


def logits_of(output: object, rows: int) -> Tensor:
    """The logits ``(n, L, V)`` in what a language model returns."""
    own = getattr(output, "logits", None)
    logits = own if isinstance(own, Tensor) else read_output(output)
    if logits.dim() == 4 and logits.shape[1] == 1:
        logits = logits[:, 0]
    if logits.dim() != 3 or len(logits) != rows:
        message = f"Expected logits ({rows}, L, V) from the language model, got {describe(logits)}."
        raise OutputError(message)
    return logits


def _accepted(model: Callable[..., Any]) -> set[str]:
    """Names of the keyword arguments that a model takes; ``"**"`` among them when it takes any."""
    function = model.forward if isinstance(model, nn.Module) else model
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return {"**"}
    names = {p.name for p in parameters if p.kind is not p.VAR_KEYWORD}
    return names | {"**"} if any(p.kind is p.VAR_KEYWORD for p in parameters) else names
