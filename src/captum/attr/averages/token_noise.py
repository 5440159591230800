"""Noise on token ids: it goes to the embeddings that read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from captum._engine.drive import AtInputs, Reduce
from captum._engine.rows import Rows
from captum._engine.score import Score
from captum._engine.values import parse_constants, parse_distribution
from captum.attr.base import Attribution


class TokenNoise:
    """Lets a method attribute to noisy embeddings: the ids travel along as constants, and the method sees embeddings.

    Args:
        score: the score at the user's inputs.
        reduce: ``"sum"`` for one score per token, None for ``(B, L, D)``.
    """

    def __init__(self, score: Score, reduce: Reduce = "sum") -> None:
        self.score = score
        self.at = AtInputs(score, reduce)
        self.values = self.at.values
        self._fixed = [i for i in range(len(self.at.base)) if i not in self.at.varied]

    def per_variable(self, per_leaf: tuple[float, ...]) -> tuple[float, ...]:
        """One standard deviation per variable from one per input."""
        return (*[per_leaf[i] for i in self.at.varied], *[per_leaf[u.leaf] for u in self.at.lookups])

    def attribute(self, method: Attribution, noisy: tuple[Tensor, ...], kwargs: dict[str, Any], rows: Rows) -> Any:
        """What the method returns for noisy embeddings, in the structure of the user's inputs."""
        ids = tuple(rows.pick(t) for t in self.at.base)
        given = parse_constants(kwargs.pop("additional_forward_args", None))
        needs = "baselines" in kwargs or method.has_convergence_delta()
        baselines = kwargs.pop("baselines", None)
        distribution = getattr(method, "baselines_are_distribution", False)
        if needs:
            kwargs["baselines"] = self._embedded(baselines, ids, given, distribution)
        forward = method.forward_func
        method.forward_func = self._on_embeddings(forward)
        try:
            constants = (*[ids[i] for i in self._fixed], *given)
            found = method.attribute(noisy, **kwargs, additional_forward_args=constants or None)
        finally:
            method.forward_func = forward
        pair = isinstance(found, tuple) and len(found) == 2 and bool(kwargs.get("return_convergence_delta"))
        parts: Any = found[0] if pair else found
        same = isinstance(parts, tuple) and len(parts) == len(noisy)
        if not same or not all(p.shape == v.shape for p, v in zip(parts, noisy, strict=True)):
            return found
        restored = self.at.restore(parts)
        return (restored, found[1]) if pair else restored

    def _embedded(
        self, baselines: Any, ids: tuple[Tensor, ...], constants: tuple[Any, ...], distribution: bool
    ) -> tuple[Tensor, ...]:
        """Baselines as embeddings: for the rows of the chunk, or for the rows of a distribution."""
        forward, inputs = self.score.forward, self.score.inputs
        if distribution:
            pool = parse_distribution(baselines, inputs, inputs.restore(inputs.tensors))
            pool = tuple(p.to(t.dtype) for p, t in zip(pool, inputs.tensors, strict=True))
            return AtInputs(Score(forward, replace(inputs, tensors=pool), None, constants)).values
        at = AtInputs(Score(forward, replace(inputs, tensors=ids), None, constants))
        rows = at.everyone()
        return tuple(rows.pick(b) for b in at.baseline_values(baselines))

    def _on_embeddings(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        at, count, fixed = self.at, len(self.values), self._fixed

        def on_embeddings(*args: Any) -> Any:
            variables, rest = args[:count], args[count:]
            tensors: list[Any] = [None] * len(at.base)
            for place, value in zip(at.varied, variables, strict=False):
                tensors[place] = value
            for place, value in zip(fixed, rest, strict=False):
                tensors[place] = value
            arguments, keywords = at.inputs.arguments(tuple(tensors))
            with at.replaced(variables):
                return forward(*arguments, *rest[len(fixed) :], **keywords)

        return on_embeddings
