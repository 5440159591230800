"""Every operator of the table: completeness under Rescale, the gradient where nothing differs, LRP without surprise."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.operators import OPERATORS, Kind
from captum._engine.rules import RuleMode
from captum.attr.backprop.composites import epsilon
from captum.attr.backprop.relevance_flow import RelevanceFlow
from captum.attr.backprop.rescale_rules import Rescale
from tests.unit.engine.rule_calls import CALLS, Function

SEEN: set[str] = set()


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rows(out: Tensor) -> Tensor:
    return out.flatten(1).sum(1) if out.dim() > 1 else out


def rescale(function: Function, x: Tensor, x0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Multipliers, scores at the input, scores at the baseline."""
    leaf = x.clone().requires_grad_()
    mode = RuleMode(Rescale().table(), paired=True)
    mode.begin([leaf], [x0])
    try:
        with mode:
            scores = rows(function(leaf.clone()))
        (multipliers,) = torch.autograd.grad(scores.sum(), leaf)
        return multipliers, scores.detach(), mode.twin(scores)
    finally:
        SEEN.update(mode.used)
        mode.close()


@pytest.mark.parametrize("name", CALLS)
def test_the_change_of_the_score_is_explained_whole(name: str) -> None:
    function = CALLS[name]
    for seed in (1, 3):
        x, x0 = drawn(4, 6, seed=seed), drawn(4, 6, seed=seed + 1)
        multipliers, scores, starts = rescale(function, x, x0)
        with torch.no_grad():
            torch.testing.assert_close(scores, rows(function(x.clone())), rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(starts, rows(function(x0.clone())), rtol=1e-12, atol=1e-12)
        parts = multipliers * (x - x0)
        if name in ("max of all", "sum and mean"):  # one score of the whole batch in each row
            parts, scores, starts = parts.sum(0, keepdim=True), scores.sum(0, keepdim=True), starts.sum(0, keepdim=True)
        scale = 1e-9 + parts.abs().sum() + (scores - starts).abs().max()
        assert ((parts.sum(1) - (scores - starts)).abs().max() / scale) < 1e-12


@pytest.mark.parametrize("name", CALLS)
def test_where_nothing_differs_multipliers_are_the_gradient(name: str) -> None:
    if name in ("works_in_place", "overwrites_through_a_view"):
        pytest.skip("torch itself cannot differentiate it")
    function = CALLS[name]
    x = drawn(4, 6, seed=5)
    multipliers, _, _ = rescale(function, x, x)
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(rows(function(leaf.clone())).sum(), leaf)
    torch.testing.assert_close(multipliers, gradient, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", CALLS)
def test_a_batch_is_what_its_rows_are(name: str) -> None:
    if name in ("max of all", "sum and mean", "index by argmax", "softmax under a mask"):
        pytest.skip("it mixes rows, or says how many there are")
    if ".view(4" in name or any(word in name for word in ("pool", "norm", "sdpa", "interpolate", "amin over")):
        pytest.skip("its shapes are those of four rows")
    function = CALLS[name]
    x, x0 = drawn(4, 6, seed=7), drawn(4, 6, seed=8)
    whole = rescale(function, x, x0)[0]
    for row in range(4):
        one = rescale(function, x[row : row + 1], x0[row : row + 1])[0]
        torch.testing.assert_close(one, whole[row : row + 1], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CALLS)
def test_relevance_finds_its_way_back(name: str) -> None:
    function = CALLS[name]
    leaf = (drawn(4, 6, seed=9)).requires_grad_()
    flow = RelevanceFlow(nn.Module(), epsilon())
    mode = RuleMode(flow.table())
    mode.begin([leaf])
    try:
        with mode, flow.stack.followed():
            scores = rows(function(leaf.clone()))
        mode.check_seen(scores)
        (relevance,) = torch.autograd.grad(scores, leaf, scores.detach(), allow_unused=True)
        assert relevance is None or torch.isfinite(relevance).all()
        with torch.no_grad():
            torch.testing.assert_close(scores, rows(function(leaf.clone())), rtol=1e-12, atol=1e-12)
    finally:
        mode.close()


def _other_calls() -> None:
    x, x0 = drawn(4, 6, seed=1), drawn(4, 6, seed=2)
    image, weight = (4, 1, 2, 3), drawn(6, 3, seed=3)
    calls: list[Function] = [
        lambda t: F.linear(t, weight.T).tanh(), lambda t: torch.mm(t, weight),
        lambda t: torch.addmm(weight[:4], t, weight),
        lambda t: t.mv(weight[:, 0]), lambda t: torch.outer(t[0], t[1])[:4],
        lambda t: t.dot(t)[None] if t.dim() == 1 else t,
        lambda t: F.conv1d(t[:, None], weight[:, None, :2]).tanh(),
        lambda t: F.conv2d(t.view(image), weight[:, :1, None, None]),
        lambda t: F.conv3d(t.view(4, 1, 1, 2, 3), weight[:, :1, None, None, None]),
        lambda t: F.conv_transpose1d(t[:, None], weight[None, :, :2]).relu(),
        lambda t: F.conv_transpose2d(t.view(image), weight[None, :, :2, None]),
        lambda t: F.conv_transpose3d(t.view(4, 1, 1, 2, 3), weight[None, :, :2, None, None]),
        lambda t: F.batch_norm(t, weight[:, 0].clone(), weight[:, 1].abs() + 1, weight[:, 2].clone()).exp(),
        lambda t: F.batch_norm(t, None, None, training=True)[:4], lambda t: F.avg_pool2d(t.view(image), 2).exp(),
        lambda t: F.avg_pool3d(t.view(4, 1, 1, 2, 3), 1), lambda t: F.adaptive_avg_pool1d(t[:, None], 2),
        lambda t: F.adaptive_avg_pool2d(t.view(image), 1), lambda t: F.adaptive_avg_pool3d(t.view(4, 1, 1, 2, 3), 1),
        lambda t: F.adaptive_max_pool3d(t.view(4, 1, 1, 2, 3), 1), lambda t: -t, lambda t: +t,
        lambda t: F.lp_pool2d(t.view(image).abs() + 1, 2, 2), lambda t: F.softplus(t, 2), lambda t: t.asinh(),
    ]  # fmt: skip
    for function in calls:
        multipliers, scores, starts = rescale(function, x, x0)
        gap = (multipliers * (x - x0)).sum() - (scores - starts).sum()
        assert gap.abs() < 1e-10 * (1 + scores.abs().sum()), calls.index(function)


#: Operators that no call above reaches: seldom used on the differentiated path, or spelled by others.
RARE = {
    "addbmm", "baddbmm", "addmv", "addr", "bmm", "conv_tbc", "cross", "diff", "dot", "embedding_bag",
    "fold",
    "ger", "grouped_mm", "_grouped_mm", "index_add", "inner", "kron", "linalg_cross", "linalg_vecdot", "nansum",
    "scatter_add", "tensordot", "trace", "upsample", "upsample_bilinear", "upsample_nearest", "vdot", "acos", "asin",
    "acosh", "atanh", "ceil", "trunc", "fix", "sign", "sgn", "frac", "heaviside", "nan_to_num", "clamp_min",
    "clamp_max",
    "cosh", "tan", "erfinv", "float_power", "i0", "logit", "special_erf", "xlogy", "fmax", "fmin", "alpha_dropout",
    "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "feature_dropout", "lstm", "gru", "rnn_tanh",
    "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell", "multi_head_attention_forward",
    "lp_pool3d", "std_mean",
}  # fmt: skip


def test_every_operator_of_the_table_is_called_by_some_test() -> None:
    for function in CALLS.values():
        rescale(function, drawn(4, 6, seed=1), drawn(4, 6, seed=2))
    _other_calls()
    kinds = (Kind.LINEAR, Kind.BILINEAR, Kind.ELEMENTWISE, Kind.EXTREME, Kind.SPECIAL, Kind.COMPOSITE)
    missing = {name for name, operator in OPERATORS.items() if operator.kind in kinds} - SEEN
    assert missing - RARE == set()


@pytest.mark.parametrize("name", sorted(RARE & {n for n, o in OPERATORS.items() if o.kind is Kind.ELEMENTWISE}))
def test_rare_elementwise_operators_are_explained_whole(name: str) -> None:
    function = getattr(torch, name, None) or getattr(torch.special, name, None)
    extra: dict[str, tuple] = {
        "float_power": (2.0,), "clamp_min": (0.1,), "clamp_max": (0.1,), "heaviside": (torch.ones(()).double(),),
        "xlogy": (torch.full((), 2.0).double(),),
    }  # fmt: skip
    if function is None:
        pytest.skip("spelled in another name space")
    shift = 1.5 if name in ("acosh", "float_power") else 0.0
    x, x0 = (drawn(4, 6, seed=s).sigmoid() * 0.9 + 0.05 + shift for s in (1, 2))
    multipliers, scores, starts = rescale(lambda t: function(t, *extra.get(name, ())), x, x0)
    torch.testing.assert_close((multipliers * (x - x0)).sum(1), scores - starts, rtol=1e-10, atol=1e-12)
