"""Recurrent operators and multi-head attention written in primitive ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.decompositions import declare_composites, scaled_dot_product_attention
from captum._engine.operators import Kind, declare

State = tuple[Tensor, ...]
Weights = Sequence[Any]  # input, recurrent, two biases or None, projection or None
Step = Callable[[Tensor, State, Weights], State]


def _gates(x: Tensor, h: Tensor, weights: Weights) -> tuple[Tensor, Tensor]:
    from_x, from_h, *biases = weights
    bias_x, bias_h = biases[:2] if len(biases) > 1 else (None, None)
    return F.linear(x, from_x, bias_x), F.linear(h, from_h, bias_h)


def _lstm_step(x: Tensor, state: State, weights: Weights) -> State:
    h, c = state
    from_x, from_h = _gates(x, h, weights)
    i, f, g, o = (from_x + from_h).chunk(4, -1)
    c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    if len(weights) > 4 and weights[4] is not None:
        h = F.linear(h, weights[4])
    return h, c


def _gru_step(x: Tensor, state: State, weights: Weights) -> State:
    (h,) = state
    from_x, from_h = _gates(x, h, weights)
    (x_r, x_z, x_n), (h_r, h_z, h_n) = from_x.chunk(3, -1), from_h.chunk(3, -1)
    n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
    z = torch.sigmoid(x_z + h_z)
    return (n + z * (h - n),)


def _plain_step(squash: Callable[[Tensor], Tensor]) -> Step:
    def step(x: Tensor, state: State, weights: Weights) -> State:
        from_x, from_h = _gates(x, state[0], weights)
        return (squash(from_x + from_h),)

    return step


_STEPS: dict[str, Step] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step(torch.tanh),
    "rnn_relu": _plain_step(torch.relu),
}


def _sweep(step: Step, rows: Sequence[Tensor], state: State, weights: Weights) -> tuple[list[Tensor], State]:
    """Run one direction; a row with fewer sequences than the state freezes the states of those that ended."""
    outputs: list[Tensor] = []
    for row in rows:
        count = len(row)
        whole = len(state[0])
        if count == whole:
            state = step(row, state, weights)
        else:
            new = step(row, tuple(s[:count] for s in state), weights)
            state = tuple(torch.cat([n, s[count:]]) for n, s in zip(new, state, strict=True))
        outputs.append(state[0][:count])
    return outputs, state


def _layers(
    kind: str,
    rows: list[Tensor],
    start: State,
    flat: Sequence[Tensor],
    biases: bool,
    settings: tuple[int, float, bool, bool],
) -> tuple[list[Tensor], State]:
    """All layers and directions over time-major rows."""
    layers, dropout, train, both = settings
    directions = 2 if both else 1
    per = len(flat) // (layers * directions)
    ends: list[State] = []
    for layer in range(layers):
        found: list[list[Tensor]] = []
        for direction in range(directions):
            number = layer * directions + direction
            own: list[Any] = list(flat[number * per : (number + 1) * per])
            if not biases and per > 2:  # a projection without biases
                own = [own[0], own[1], None, None, own[2]]
            ordered = rows[::-1] if direction else rows
            outputs, end = _sweep(_STEPS[kind], ordered, tuple(s[number] for s in start), own)
            found.append(outputs[::-1] if direction else outputs)
            ends.append(end)
        rows = found[0] if directions == 1 else [torch.cat(pair, -1) for pair in zip(*found, strict=True)]
        if dropout and train and layer < layers - 1:
            rows = [F.dropout(r, dropout, training=True) for r in rows]
    return rows, tuple(torch.stack([e[i] for e in ends]) for i in range(len(start)))


def _unrolled(kind: str) -> Callable[..., Any]:
    """The whole operator; torch passes ``(input, hx, weights, …, batch_first)``; packed, ``(data, sizes, hx, …)``."""

    def run(data: Tensor, second: Any, third: Any, fourth: Any, *rest: Any) -> tuple[Tensor, ...]:
        hx, weights, biases = second, third, fourth
        packed = isinstance(fourth, (list, tuple))
        if packed:
            hx, weights, biases, *rest = third, fourth, *rest  # pyright: ignore[reportAssignmentType]  # a list of the rest
        start: State = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        if packed:
            rows = list(data.split(second.tolist()))
            outputs, ends = _layers(kind, rows, start, weights, biases, tuple(rest))
            return torch.cat(outputs), *ends
        axis = 1 if rest[-1] else 0
        outputs, ends = _layers(kind, list(data.unbind(axis)), start, weights, biases, tuple(rest[:-1]))
        return torch.stack(outputs, axis), *ends

    return run


def _cell(kind: str) -> Callable[..., Any]:
    def run(
        x: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
    ) -> Any:
        state: State = tuple(hx) if isinstance(hx, (list, tuple)) else (hx,)
        new = _STEPS[kind](x, state, (w_ih, w_hh, b_ih, b_hh))
        return new if kind == "lstm" else new[0]

    return run


def multi_head_attention_forward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,  # noqa: ARG001  # torch checked it
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,  # noqa: ARG001  # a hint; attn_mask says the same
) -> tuple[Tensor, Tensor | None]:
    """Projections, attention in each head, projection; ``(L, N, E)`` or, for one example, ``(L, E)``."""
    single = query.dim() == 2
    if single:
        query, key, value = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    weights: Any = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight and in_proj_weight is not None:
        weights = in_proj_weight.chunk(3)
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    q, k, v = (F.linear(t, w, b) for t, w, b in zip((query, key, value), weights, biases, strict=True))
    length, batch, width = q.shape
    if bias_k is not None and bias_v is not None:
        k, v = torch.cat([k, bias_k.expand(1, batch, width)]), torch.cat([v, bias_v.expand(1, batch, width)])
    q, k, v = (t.reshape(t.shape[0], batch, num_heads, -1).permute(1, 2, 0, 3) for t in (q, k, v))
    k = k if static_k is None else static_k.reshape(batch, num_heads, *static_k.shape[1:])
    v = v if static_v is None else static_v.reshape(batch, num_heads, *static_v.shape[1:])
    if add_zero_attn:
        k, v = (torch.cat([t, t.new_zeros(batch, num_heads, 1, t.shape[-1])], 2) for t in (k, v))
    mask = _mask(attn_mask, key_padding_mask, q, k.shape[2])
    dropped = dropout_p if training else 0.0
    if need_weights:
        scores = torch.matmul(q * (q.shape[-1] ** -0.5), k.transpose(-2, -1))
        shares = torch.softmax(scores if mask is None else scores + mask, -1)
        heads = torch.matmul(F.dropout(shares, dropped, training=dropped > 0), v)
    else:
        shares = None
        heads = scaled_dot_product_attention(q, k, v, mask, dropped)
    out = F.linear(heads.permute(2, 0, 1, 3).reshape(length, batch, -1), out_proj_weight, out_proj_bias)
    if shares is not None and average_attn_weights:
        shares = shares.mean(1)
    return (out.squeeze(1), None if shares is None else shares.squeeze(0)) if single else (out, shares)


def _mask(attn_mask: Tensor | None, padding: Tensor | None, q: Tensor, keys: int) -> Tensor | None:
    """Both masks as one that is added to the scores, ``(N, heads, L, S)``; True and −inf hide."""
    total: Tensor | None = None
    for mask, is_padding in ((attn_mask, False), (padding, True)):
        if mask is None:
            continue
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=q.dtype).masked_fill(mask, -torch.inf)  # noqa: PLW2901  # one form
        if mask.shape[-1] < keys:
            mask = F.pad(mask, (0, keys - mask.shape[-1]))  # noqa: PLW2901  # bias_k and the zero key are not hidden
        if is_padding:
            mask = mask[:, None, None, :]  # noqa: PLW2901  # (N, S)
        elif mask.dim() == 3:
            mask = mask.reshape(q.shape[0], q.shape[1], *mask.shape[1:])  # noqa: PLW2901  # (N · heads, L, S)
        total = mask if total is None else total + mask
    return total


def declare_recurrent() -> None:
    """Enter them all, and those of :mod:`captum._engine.decompositions`."""
    declare_composites()
    for kind in _STEPS:
        declare(kind, Kind.COMPOSITE, decompose=_unrolled(kind))
        declare(f"{kind}_cell", Kind.COMPOSITE, decompose=_cell(kind))
    declare("multi_head_attention_forward", Kind.COMPOSITE, decompose=multi_head_attention_forward)
