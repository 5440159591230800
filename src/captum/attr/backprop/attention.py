"""Relevance read off attention weights: rollout, and gradient times attention."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.calls import Call, tensors_in
from captum._engine.derivative import differentiate, leaf
from captum._engine.entry import differentiable
from captum._engine.operators import Kind
from captum._engine.ruled import require_visible, run_forward
from captum._engine.ruled_inputs import AtRuled, at_ruled
from captum._engine.rules import RuleMode, Table
from captum._engine.score import read_output
from captum.attr.backprop.contrast import warn_of_training
from captum.attr.base import GradientAttribution
from captum.errors import InputError
from captum.log import log_usage

__all__ = ["AttentionRelevance", "AttentionRollout"]


class AttentionReader:
    """Finds the attention weights of a forward pass: results of softmax that are multiplied with values as matrices.

    Args:
        rows: number of examples B.

    Attributes:
        found: weights ``(B, heads, L, S)`` or ``(B · heads, L, L)`` in the order of the layers, part of the graph.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.found: list[Tensor] = []

    def table(self) -> Table:
        """Rules that follow the results of softmax to the products that use them."""
        names = {"softmax": self._softmax, "dropout": self._same, "matmul": self._product, "bmm": self._product}
        return Table(names, {Kind.STRUCTURAL: self._structural}, fallback=Call.native)

    def _softmax(self, call: Call) -> Any:
        out = call.native()
        self._note(call, out, out)
        return out

    def _same(self, call: Call) -> Any:
        """Dropout of weights is taken for the weights."""
        source = self._weights(call)
        out = call.native()
        if source is not None:
            self._note(call, out, source)
        return out

    def _structural(self, call: Call) -> Any:
        if call.name in ("to", "type", "type_as", "float", "half", "bfloat16", "contiguous", "clone"):
            return self._same(call)
        source = self._weights(call)
        out = call.native()
        if source is not None and call.name in ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze"):
            keeps: bool = out.shape[-2:] == source.shape[-2:] and out.numel() == source.numel()
            if keeps:  # heads and rows lie in one dim or in two
                self._note(call, out, source)
        return out

    def _product(self, call: Call) -> Any:
        weights = self._weights(call)
        if weights is not None and self._attends(weights) and all(weights is not f for f in self.found):
            self.found.append(weights)
        return call.native()

    def _attends(self, weights: Tensor) -> bool:
        """Whether these are weights of heads or of one: ``(B, heads, L, S)``, ``(B · heads, L, L)``, ``(B, L, L)``."""
        if weights.dim() == 3:
            return len(weights) % self.rows == 0 and weights.shape[1] == weights.shape[2]
        return weights.dim() == 4

    @staticmethod
    def _note(call: Call, out: Tensor, weights: Tensor) -> None:
        mark = call.mode.marks.get(out, call.mode)
        if mark is not None:
            mark.notes["weights"] = weights

    @staticmethod
    def _weights(call: Call) -> Tensor | None:
        first: object = call.argument(0, "input")
        mark = call.mode.marks.get(first, call.mode) if isinstance(first, Tensor) else None
        return None if mark is None else mark.notes.get("weights")


@dataclass(slots=True)
class Attention:
    """What a pass tells of attention, in single precision at least.

    Attributes:
        weights: those of each layer, ``(B, heads, L, L)``.
        grads: the gradients of the score by them; empty when not wanted.
        dtype: that of the inputs, or of the embeddings of token ids.
    """

    weights: list[Tensor]
    grads: list[Tensor]
    dtype: torch.dtype


def read_attention(function: AtRuled, model: nn.Module, *, with_gradients: bool) -> Attention:
    """Attention weights of each layer, and the gradients of the score by them if wanted.

    Args:
        function: the score as a function of the inputs.
        model: the model, to name modules in messages.
        with_gradients: whether to run the backward pass.
    """
    warn_of_training(model)
    reader = AttentionReader(function.batch)
    mode = RuleMode(reader.table(), model, on_unknown="linear")
    with contextlib.closing(mode), function.running(), torch.enable_grad():
        variables = tuple(leaf(v.detach()) for v in function.values)
        score, values = run_forward(function, mode, (variables, None), function.everyone(), None)
        found = reader.found
        _require_square(found)
        grads = differentiate(score, found) if with_gradients else ()
        weights, slopes = ([_by_head(t.detach(), function.batch) for t in tensors] for tensors in (found, grads))
        return Attention(weights, slopes, values[0].dtype)


def _by_head(tensor: Tensor, rows: int) -> Tensor:
    """``(B, heads, L, L)`` in single precision at least."""
    tensor = tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    return tensor.reshape(rows, -1, *tensor.shape[-2:])


def _require_square(found: list[Tensor]) -> None:
    shapes = {tuple(w.shape[-2:]) for w in found}
    if not found or len(shapes) != 1 or next(iter(shapes))[0] != next(iter(shapes))[1]:
        message = (
            f"Expected self-attention over one sequence in every layer, found weights of shapes {sorted(shapes)}. Pass "
            "a model with softmax attention, such as an encoder or a decoder on its own."
        )
        raise InputError(message)


class _AttentionMethod(GradientAttribution):
    """What methods that read attention share.

    Args:
        model: a transformer, with batch-first self-attention of any implementation.
    """

    def __init__(self, model: nn.Module) -> None:
        require_visible(model, type(self).__name__)
        super().__init__(model)
        self.model = model

    def _of_query(self, relevance: Tensor, query: int) -> Tensor:
        count = relevance.shape[-1]
        if not -count <= query < count:
            message = f"Expected query as a position among {count} tokens, got {query}."
            raise InputError(message)
        return relevance[:, query]


class AttentionRollout(_AttentionMethod):
    r"""Attention rollout: :math:`\prod_l \tfrac{1}{2} (\bar A_l + I)` with attention averaged over heads.

    How much of each token reaches the query token through attention and residual connections. Not class-specific.

    S. Abnar, W. Zuidema, "Quantifying attention flow in transformers", 2020, arXiv:2005.00928.

    Args:
        model: a transformer, with batch-first self-attention of any implementation.
    """

    @log_usage()
    @differentiable
    def attribute(self, inputs: Any, additional_forward_args: Any = None, *, query: int = 0) -> Tensor:
        """Share of each token in the query token.

        Args:
            inputs: token ids ``(B, L)``, or whatever the model takes.
            additional_forward_args: constants of the model.
            query: position of the token that is read: 0 (default) for a class token first, −1 for the last token.

        Returns:
            Tensor ``(B, L)``; each row sums to 1.

        Raises:
            InputError: when the model has no self-attention over one sequence.
        """
        function = at_ruled(self.model, inputs, partial(_any_score, rows=_rows_of(inputs)), additional_forward_args)
        read = read_attention(function, self.model, with_gradients=False)
        weights = read.weights
        total = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
        for layer in weights:
            mixed = layer.mean(1) + torch.eye(layer.shape[-1], dtype=layer.dtype, device=layer.device)
            total = (mixed / mixed.sum(-1, keepdim=True)) @ total
        return self._of_query(total, query).to(read.dtype)


def _rows_of(inputs: Any) -> int:
    first: Any = inputs
    while not isinstance(first, Tensor):
        first = next(iter(first.values() if hasattr(first, "values") else first))
    return len(first)


def _any_score(output: Any, rows: int) -> Tensor:
    """Any number per row; the rollout does not read it."""
    several = [t for t in tensors_in(output, []) if t.is_floating_point() and t.dim() and t.numel() % rows == 0]
    found = several[0] if len(several) > 1 else read_output(output)
    return found.reshape(rows, -1).sum(1)


class AttentionRelevance(_AttentionMethod):
    r"""Gradient × attention, layer by layer.

    :math:`R \leftarrow R + \overline{\max(\nabla A_l \odot A_l, 0)}\, R`, starting from R = I.

    H. Chefer, S. Gur, L. Wolf, "Generic attention-model explainability for interpreting bi-modal and encoder-decoder
    transformers", 2021, arXiv:2103.15679.

    Args:
        model: a transformer, with batch-first self-attention of any implementation.
    """

    @log_usage()
    @differentiable
    def attribute(
        self, inputs: Any, target: Any = None, additional_forward_args: Any = None, *, query: int = 0
    ) -> Tensor:
        """Relevance of each token for the score, as seen by the query token.

        Args:
            inputs: token ids ``(B, L)``, or whatever the model takes.
            target: which output is explained; see ``docs/conventions.md``.
            additional_forward_args: constants of the model.
            query: position of the token that the score is read from: 0 (default) for a class token, −1 for the last.

        Returns:
            Tensor ``(B, L)``; the query's own entry holds the 1 of the identity.

        Raises:
            InputError: when the model has no self-attention over one sequence.
        """
        function = at_ruled(self.model, inputs, target, additional_forward_args)
        read = read_attention(function, self.model, with_gradients=True)
        weights = read.weights
        size = weights[0].shape[-1]
        relevance = torch.eye(size, dtype=weights[0].dtype, device=weights[0].device).expand(
            len(weights[0]), size, size
        )
        for layer, grad in zip(weights, read.grads, strict=True):
            relevance = relevance + (layer * grad).clamp(min=0).mean(1) @ relevance
        return self._of_query(relevance, query).to(read.dtype)
