"""Each rule of relevance propagation in plain matrix form, and what composites make of them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import LRP, InputXGradient, LayerLRP, composites
from captum.attr.backprop.affine import Affine
from captum.attr.backprop.relevance_rules import (
    Alpha1_Beta0_Rule,
    AlphaBetaRule,
    EpsilonRule,
    FlatRule,
    GammaRule,
    IdentityRule,
    NormRule,
    PassRule,
    PropagationRule,
    WSquareRule,
    ZBoxRule,
    ZPlusRule,
)
from captum.errors import InputError
from tests.subjects import subject

D = torch.float64


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


X, W, B, R = drawn(2, 5, seed=1), drawn(4, 5, seed=2), drawn(4, seed=3), drawn(2, 4, seed=4)
EPS = 1e-9


def stab(z: Tensor) -> Tensor:
    return z + EPS * torch.where(z >= 0, 1.0, -1.0)


def matrix_of(z_ij: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """R_i = Σ_j z_ij R_j / (Σ_i z_ij + b_j), contributions ``(rows, in, out)``."""
    return (z_ij * (R / stab(z_ij.sum(1) + bias)).unsqueeze(1)).sum(2)


Z = X.unsqueeze(2) * W.T  # what input i gives to output j
ONES = torch.ones_like(Z)
OUT = Z.sum(1) + B
LOW, HIGH = -3.0, 4.0
FORMULAE = {
    "epsilon": (EpsilonRule(), matrix_of(Z, B)),
    "large epsilon": (EpsilonRule(0.5), (Z * (R / (OUT + 0.5 * OUT.sign())).unsqueeze(1)).sum(2)),
    "gamma": (GammaRule(0.3), matrix_of(X.unsqueeze(2) * (W + 0.3 * W.clamp(min=0)).T, B)),
    "gamma without bias": (GammaRule(0.3, True), matrix_of(X.unsqueeze(2) * (W + 0.3 * W.clamp(min=0)).T)),
    "alpha1 beta0": (Alpha1_Beta0_Rule(), matrix_of(X.unsqueeze(2) * W.clamp(min=0).T, B)),
    "alpha1 beta0 without bias": (Alpha1_Beta0_Rule(True), matrix_of(X.unsqueeze(2) * W.clamp(min=0).T)),
    "alpha2 beta1": (
        AlphaBetaRule(2, 1), 2 * matrix_of(Z.clamp(min=0), B.clamp(min=0)) - matrix_of(Z.clamp(max=0), B.clamp(max=0))
    ),
    "z plus": (ZPlusRule(), matrix_of(Z.clamp(min=0), B.clamp(min=0))),
    "z box": (ZBoxRule(LOW, HIGH), matrix_of(Z - LOW * W.clamp(min=0).T - HIGH * W.clamp(max=0).T,
                                             B - B.clamp(min=0) - B.clamp(max=0))),
    "w square": (WSquareRule(), matrix_of(ONES * (W**2).T)),
    "flat": (FlatRule(), matrix_of(ONES)),
    "norm": (NormRule(), matrix_of(X.unsqueeze(2) * ONES)),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAE)
def test_rules_in_matrix_form(name: str) -> None:
    rule, want = FORMULAE[name]
    found = rule.propagate(X, Affine(F.linear, W, B), R)
    torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", FORMULAE)
def test_rules_through_a_model(name: str) -> None:
    """The same rule, set on a module, on ``F.linear`` by a composite, and on a convolution of width one."""
    rule, _ = FORMULAE[name]
    layer = nn.Linear(5, 4).double()
    layer.weight.data, layer.bias.data = W, B
    with torch.no_grad():
        relevance = torch.zeros_like(R)
        relevance[:, 2] = layer(X)[:, 2]
    want = rule.propagate(X, Affine(F.linear, W, B), relevance)

    class Function(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x, W, B)

    class Convolution(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv1d(x.unsqueeze(2), W.unsqueeze(2), B).squeeze(2)

    class Product(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.addmm(B, x, W.T)

    for model in (layer, Function(), Convolution(), Product()):
        found = LRP(model, composite=composites.Composite(default=rule)).attribute(X, 2)
        torch.testing.assert_close(found, want, rtol=1e-6, atol=1e-9)
    layer.rule = rule
    for _ in range(2):
        torch.testing.assert_close(LRP(nn.Sequential(layer)).attribute(X, 2), want, rtol=1e-6, atol=1e-9)
        assert layer.rule is rule


def test_pass_and_identity_pass() -> None:
    layer = nn.Linear(4, 4).double()
    layer.rule = IdentityRule()
    x = drawn(2, 4, seed=1)
    want = torch.zeros(2, 4, dtype=D)
    want[:, 1] = layer(x)[:, 1].detach()
    torch.testing.assert_close(LRP(layer).attribute(x, 1), want)
    with pytest.raises(InputError, match="another rule"):
        LRP(nn.Linear(4, 2).double(), composite=composites.Composite(default=PassRule())).attribute(x, 1)


def test_only_rules_may_be_rules() -> None:
    model = nn.Sequential(nn.Linear(2, 2))
    model[0].rule = "epsilon"
    with pytest.raises(TypeError, match=r"\.rule of module '0'"):
        LRP(model)
    model[0].rule = EpsilonRule  # type: ignore[assignment]
    with pytest.raises(TypeError, match="the class EpsilonRule: make one of it"):
        LRP(model)
    with pytest.raises(InputError, match="composite"):
        LRP(nn.Linear(2, 2), composite="odd")
    with pytest.raises(InputError, match="alpha"):
        AlphaBetaRule(1, 1)


def test_epsilon_on_relu_nets_is_input_times_gradient() -> None:
    whole = subject("mlp")
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3))
    torch.testing.assert_close(
        LRP(model).attribute(whole.inputs, whole.target), InputXGradient(model).attribute(whole.inputs, whole.target)
    )


class Residual(nn.Module):
    """Skip connections, concatenation, all sorts of pooling, norms and activations; no biases."""

    def __init__(self, act=F.silu, squash=torch.sigmoid) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.act, self.squash = act, squash
        self.a, self.b = nn.Conv2d(3, 4, 3, bias=False), nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.up, self.out = nn.ConvTranspose2d(4, 2, 2, bias=False), nn.Linear(2 * 16, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.a(x), inplace=True)
        x = x + self.act(self.b(x))
        x = self.squash(torch.cat([F.avg_pool2d(x, 2), F.max_pool2d(x, 3, 2, 1)], 1))[:, :4] * 2
        return self.out(F.dropout(self.act(self.up(x)), training=False).flatten(1))


@pytest.mark.parametrize("composite", ["epsilon", "epsilon_plus", "epsilon_plus_flat", "box"])
def test_relevance_is_conserved_where_nothing_has_a_bias(composite: str) -> None:
    make = getattr(composites, composite, None)
    table = composites.epsilon_gamma_box(-4, 4, epsilon=1e-9) if make is None else make(epsilon=1e-9)
    model = (Residual() if composite == "epsilon" else Residual(F.relu, F.relu)).double()  # z⁺ needs what is positive
    x = drawn(2, 3, 8, 8, seed=1)
    found, delta = LRP(model, composite=table).attribute(x, [0, 2], return_convergence_delta=True)
    scores = model(x)[[0, 1], [0, 2]]
    assert (delta.abs() <= 1e-5 * scores.abs()).all()
    torch.testing.assert_close(found.flatten(1).sum(1) + delta, scores.detach())


def test_a_skip_connection_shares_in_proportion() -> None:
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.f = nn.Linear(3, 3, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return (x + self.f(x).relu()).sum(1)

    model = Skip().double()
    x = drawn(2, 3, seed=1)
    found, delta = LRP(model).attribute(x, return_convergence_delta=True)
    assert delta.abs().max() < 1e-8
    with torch.no_grad():
        z = x.unsqueeze(2) * model.f.weight.T
        by_f = (z * (model.f(x) > 0).unsqueeze(1)).sum(2)
    torch.testing.assert_close(found, x + by_f, rtol=1e-6, atol=1e-8)


def test_batch_norm_is_merged_into_the_operator_before_it() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2), norm.weight.data.normal_(), norm.bias.data.normal_()
    model = nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).double().eval()
    merged = nn.utils.fuse_conv_bn_eval(conv, norm)
    alone = nn.Sequential(merged, *model[2:]).double()
    x = drawn(2, 2, 6, 6, seed=1)
    for composite in ("epsilon", "epsilon_plus", "alpha2_beta1_flat", composites.epsilon_gamma_box(-3, 3)):
        torch.testing.assert_close(
            LRP(model, composite=composite).attribute(x, 1), LRP(alone, composite=composite).attribute(x, 1)
        )


def test_rows_go_by_operator_path_type_depth_and_function() -> None:
    model = nn.Sequential(
        nn.Conv1d(1, 2, 2), nn.ReLU(), nn.Sequential(nn.Conv1d(2, 2, 2)), nn.Flatten(), nn.Linear(8, 1)
    )
    lines: list[str] = []
    x = drawn(1, 1, 6, seed=1).float()
    marks = [EpsilonRule(e) for e in (0.1, 0.2, 0.3, 0.4, 0.5)]

    def used(*rows) -> list[float]:
        lines.clear()
        from captum.attr.backprop.relevance_flow import RelevanceFlow

        table = composites.Composite(rows, EpsilonRule(0.9))
        flow = RelevanceFlow(model, table, lines.append)
        method = LRP(model, composite=table)
        method.attribute(x)
        from captum._engine.rules import RuleMode

        leaf = x.clone().requires_grad_()
        mode = RuleMode(flow.table(), model)
        mode.begin([leaf])
        with mode, flow.stack.followed():
            model(leaf.clone())
        mode.close()
        return [float(line.rsplit("=", 1)[1].rstrip(")")) for line in lines]

    assert used() == [0.9, 0.9, 0.9]
    assert used(("conv*", marks[0])) == [0.1, 0.1, 0.9]
    assert used(("2.*", marks[1])) == [0.9, 0.2, 0.9]
    assert used((nn.Linear, marks[2])) == [0.9, 0.9, 0.3]
    assert used((0, marks[3]), ("conv1d", marks[0])) == [0.4, 0.1, 0.9]
    assert used((lambda site: site.depth == 2, marks[4])) == [0.9, 0.9, 0.5]


def test_what_is_printed_names_layer_and_rule(capsys: pytest.CaptureFixture[str]) -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    model[1].rule = GammaRule(0.5)
    LRP(model).attribute(torch.ones(1, 2), verbose=True)
    assert capsys.readouterr().out.splitlines() == [
        "linear in 0 (Linear): EpsilonRule(epsilon=1e-09)",
        "linear in 1 (Linear): GammaRule(gamma=0.5, set_bias_to_zero=False, epsilon=1e-09)",
    ]


def test_layers() -> None:
    model = Residual().double()
    x = drawn(2, 3, 8, 8, seed=1)
    found, deltas = LayerLRP(model, [model.a, model.out]).attribute(x, 1, return_convergence_delta=True)
    assert [f.shape for f in found] == [(2, 4, 6, 6), (2, 3)]
    assert all((d.abs() < 1e-6).all() for d in deltas)
    whole = LayerLRP(model, model.a).attribute(x, 1, attribute_to_layer_input=True)
    torch.testing.assert_close(whole, LRP(model).attribute(x, 1))
    relu = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1))
    at_activation = LayerLRP(relu, relu[1]).attribute(torch.ones(1, 3))
    torch.testing.assert_close(at_activation, LRP(relu[2]).attribute(relu[:2](torch.ones(1, 3)).detach()))


def test_a_rule_of_ones_own() -> None:
    class Halved(PropagationRule):
        def groups(self, x: Tensor, affine: Affine) -> list:
            return [*EpsilonRule().groups(x, affine)] * 2

    layer = nn.Linear(3, 1).double()
    x = drawn(2, 3, seed=1)
    once = LRP(layer).attribute(x)
    layer.rule = Halved()
    torch.testing.assert_close(LRP(layer).attribute(x), 2 * once)


def _attention_by_hand(x: Tensor, q: Tensor, k: Tensor, v: Tensor, relevance: Tensor) -> Tensor:
    """AttnLRP of softmax(x q (x k)ᵀ) x v in loops over tokens, for one example."""
    queries, keys, values = x @ q, x @ k, x @ v
    scores = queries @ keys.T
    shares = scores.softmax(-1)
    out = shares @ values
    part = relevance / stab(out)
    r_shares, r_values = 0.5 * shares * (part @ values.T), 0.5 * values * (shares.T @ part)
    r_scores = scores * (r_shares - shares * r_shares.sum(-1, keepdim=True))
    part = r_scores / stab(scores)
    r_queries, r_keys = 0.5 * queries * (part @ keys), 0.5 * keys * (part.T @ queries)
    total = torch.zeros_like(x)
    for projected, weight, r in ((queries, q, r_queries), (keys, k, r_keys), (values, v, r_values)):
        total = total + x * ((r / stab(projected)) @ weight.T)
    return total


def test_attention_by_hand() -> None:
    q, k, v = (drawn(4, 4, seed=s) for s in (1, 2, 3))
    x = drawn(1, 3, 4, seed=5)

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x @ q, x @ k, x @ v, scale=1.0)

    table = composites.attn_lrp(epsilon=EPS)
    found = LRP(Attention(), composite=table).attribute(x, (1, 2))
    relevance = torch.zeros(3, 4, dtype=D)
    relevance[1, 2] = Attention()(x)[0, 1, 2]
    torch.testing.assert_close(found[0], _attention_by_hand(x[0], q, k, v, relevance), rtol=1e-5, atol=1e-8)


def test_activations_that_are_written_out_pass_relevance_as_a_whole() -> None:
    class NewGELUActivation(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * torch.pow(x, 3))))

    torch.manual_seed(0)
    ends = nn.Linear(4, 5).double(), nn.Linear(5, 1).double()
    x = drawn(2, 4, seed=1)
    written = LRP(nn.Sequential(ends[0], NewGELUActivation(), ends[1]), composite="attn_lrp").attribute(x)
    whole = LRP(nn.Sequential(ends[0], nn.GELU("tanh"), ends[1]), composite="attn_lrp").attribute(x)
    torch.testing.assert_close(written, whole, rtol=1e-6, atol=1e-8)


def test_conservative_propagation_takes_attention_for_a_constant() -> None:
    q, k, v = (drawn(4, 4, seed=s) for s in (1, 2, 3))
    x = drawn(2, 3, 4, seed=5)

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.softmax(x @ q @ (x @ k).mT, -1) @ (x @ v)

    found, delta = LRP(Attention(), composite="cp_lrp").attribute(x, (1, 2), return_convergence_delta=True)
    with torch.no_grad():
        shares = F.softmax(x @ q @ (x @ k).mT, -1)
        want = x * torch.einsum("bt,d->btd", shares[:, 1], v[:, 2])
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)
    assert delta.abs().max() < 1e-4


@pytest.mark.parametrize("name", ["bert", "gpt2", "vit"])
@pytest.mark.parametrize("composite", ["attn_lrp", "cp_lrp"])
def test_transformers_give_one_score_per_token(name: str, composite: str) -> None:
    whole = subject(name)
    found = LRP(whole.model, composite=composite).attribute(whole.inputs, whole.target, whole.arguments)
    assert found.shape == whole.inputs.shape
    assert torch.isfinite(found).all()
    assert found.abs().max() > 0
    layer = LayerLRP(whole.model, whole.module, composite=composite).attribute(
        whole.inputs, whole.target, whole.arguments
    )
    assert torch.isfinite(layer).all()


class Rectified(nn.Module):
    """w · norm(relu(a) + relu(b)): a norm gives an entry that is 0 the value −mean/std, and relevance."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        total = a.relu() + b.relu()
        return (F.layer_norm(total, (8,)) * torch.linspace(1, 2, 8).to(a)).sum(1)


def test_the_delta_tells_what_a_norm_passes_to_sums_that_are_zero() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(4, 8, generator=draw, dtype=torch.float64) for _ in range(2))
    found, delta = LRP(Rectified()).attribute((a, b), return_convergence_delta=True)
    total = a.relu() + b.relu()
    relevance = F.layer_norm(total, (8,)) * torch.linspace(1, 2, 8).double()
    lost = torch.where(total == 0, relevance, 0.0)
    assert bool((lost.abs().sum(1) > 0.1).any())
    torch.testing.assert_close(delta, lost.sum(1), rtol=1e-6, atol=1e-6)  # nothing else is lost, and all of it is told
    for part, own in zip(found, (a, b), strict=True):
        share = torch.where(total == 0, 0.0, own.relu() / torch.where(total == 0, 1.0, total))
        torch.testing.assert_close(part, share * relevance, rtol=1e-6, atol=1e-6)
