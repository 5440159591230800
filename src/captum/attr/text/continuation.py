"""Continuation: log-probabilities of given target tokens after prompts, many prompts in one forward pass.

A causal model reads no token after the one that it predicts, so prompts of different lengths are padded on the right,
with their target appended, and every target token is scored in the same pass: no generation step, and no cache. The
first pass shows whether the model is one; else every token takes a pass of its own, behind a prompt of its own.
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
READS_AHEAD = (
    "The model scores the target's first token otherwise when the other tokens stand behind it: it reads ahead, as "
    "encoders and models with a prefix do, or draws anew in training mode. Explain a target of one token, or call "
    "model.eval()."
)
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
        self._together = True
        self._trusted: set[str] = set()

    def __call__(self, prompts: Sequence[Any]) -> Tensor:
        """Log-probabilities ``(n, T)`` of the target's tokens, each given its prompt and the ones before; on the CPU.

        Args:
            prompts: texts, ids ``(1, L)``, or mappings of the model's inputs with ``input_ids``.
        """
        found: dict[int, Tensor] = {}
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
        return torch.stack([found[place] for place in range(len(prompts))])

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
            count = self._fitting(rest) if self._together else 1
            try:
                scores += self._pass(rest[:count]) if self._together else [self._token_by_token(rest[0])]
            except (RuntimeError, MemoryError) as fault:
                if count == 1 or not ran_out_of_memory(fault):
                    raise
                release_memory()
                self._most = max(1, self._most // 2)
        return scores

    def _fitting(self, prompts: list[Tensor]) -> int:
        """How many of the first prompts one pass takes."""
        if "attention_mask" not in self._accepts:  # nothing tells what is padding: only equal lengths together
            same = next((i for i, p in enumerate(prompts) if len(p) != len(prompts[0])), len(prompts))
            prompts = prompts[:same]
        longest = 0
        for count, prompt in enumerate(prompts):
            longest = max(longest, len(prompt) + len(self.target))
            if count and longest * (count + 1) > self._most:
                return count
        return len(prompts)

    def _token_by_token(self, prompt: Tensor) -> Tensor:
        """Scores ``(T,)`` of a model that reads ahead: every token behind what stands before it, and nothing else."""
        steps = [torch.cat([prompt, self.target.cpu()[:t]])[None] for t in range(len(self.target))]
        return torch.cat([self._last_of(ids, t) for t, ids in enumerate(steps)])

    def _last_of(self, ids: Tensor, token: int) -> Tensor:
        """Score ``(1,)`` of one token of the target behind ``ids`` ``(1, L)``, the whole of what the model reads."""
        more = {"attention_mask": torch.ones_like(ids).to(self._device), "use_cache": False}
        logits = self._logits(ids.to(self._device), more)
        return target_scores(logits[:, -1:], self.target[token : token + 1])[0].cpu()

    def _pass(self, prompts: list[Tensor]) -> list[Tensor]:
        length = max(map(len, prompts)) + len(self.target) - 1
        ids = torch.zeros((len(prompts), length), dtype=torch.int64)
        mask = torch.zeros_like(ids)
        target = self.target.cpu()
        for row, prompt in enumerate(prompts):
            whole = torch.cat([prompt, target[:-1]])
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
        shift = int(wanted[0]) if keep and logits.shape[1] == len(wanted) else 0
        rows = torch.arange(len(prompts))[:, None]
        own = logits[rows.to(logits.device), (places - shift).to(logits.device)]
        scores = target_scores(own, self.target).cpu()
        if not self._measured:
            self._measured = True
            self._most = max(1, min(MOST_TOKENS, MOST_LOGITS * length // logits.numel() * len(prompts)))
        if not self._reads_only_what_is_before(prompts, scores, logits.dtype):
            self._together = False
            return [self._token_by_token(prompt) for prompt in prompts]
        return list(scores)

    def _reads_only_what_is_before(self, prompts: list[Tensor], scores: Tensor, dtype: torch.dtype) -> bool:
        """Whether a prompt alone scores the target's first token as it did beside padding and the tokens after it.

        Looked at in the first pass that has tokens after it, and in the first one that has padding.
        """
        lengths = [len(p) for p in prompts]
        news = {"padding"} if min(lengths) < max(lengths) else set[str]()
        news |= {"tokens"} if len(self.target) > 1 else set()
        if news <= self._trusted:
            return True
        self._trusted |= news
        shortest = lengths.index(min(lengths))
        return same_scores(scores[shortest, :1], self._last_of(prompts[shortest][None], 0), dtype)

    def _with_inputs(self, inputs: dict[str, Any]) -> Tensor:
        """Scores of one prompt with further inputs, such as the pixels of an image."""
        scores, dtype = self._behind(inputs, len(self.target))
        if len(self.target) > 1 and "inputs" not in self._trusted:
            self._trusted.add("inputs")
            if not same_scores(scores[:1], self._behind(inputs, 1)[0], dtype):
                raise OutputError(READS_AHEAD)
        return scores

    def _behind(self, inputs: dict[str, Any], count: int) -> tuple[Tensor, torch.dtype]:
        """Scores of the first tokens of the target behind a prompt with further inputs, and the dtype of the logits."""
        more = {k: v.to(self._device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        ids = torch.as_tensor(more.pop("input_ids")).reshape(1, -1).to(self._device)
        before = self.target[: count - 1].reshape(1, -1)
        for name in ("attention_mask", "token_type_ids", "mm_token_type_ids"):
            if isinstance(more.get(name), Tensor):
                fill = torch.full_like(before, 1 if name == "attention_mask" else 0, dtype=more[name].dtype)
                more[name] = torch.cat([more[name], fill], 1)
        whole = torch.cat([ids, before], 1)
        logits = self._logits(whole, {"attention_mask": torch.ones_like(whole), "use_cache": False, **more})
        return target_scores(logits[:, -count:], self.target[:count])[0].cpu(), logits.dtype

    def _logits(self, ids: Tensor, more: dict[str, Any]) -> Tensor:
        """Logits ``(n, L, V)``."""
        known = {k: v for k, v in more.items() if k in self._accepts or "**" in self._accepts}
        with torch.no_grad():
            return logits_of(self._model(input_ids=ids, **known), len(ids))


def target_scores(logits: Tensor, target: Tensor) -> Tensor:
    """Log-probabilities ``(n, T)`` of the target's tokens from logits ``(n, T, V)``, in float32 at least."""
    chances = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    ids = target.to(chances.device).expand(len(chances), -1)
    return chances.gather(2, ids[:, :, None])[:, :, 0]


def same_scores(one: Tensor, other: Tensor, dtype: torch.dtype) -> bool:
    """Whether two log-probabilities are the same but for what rounding in ``dtype`` leaves."""
    near = max(1e-3, 2 * torch.finfo(dtype).eps ** 0.5)
    return torch.allclose(one.float(), other.float(), rtol=near, atol=near, equal_nan=True)


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
