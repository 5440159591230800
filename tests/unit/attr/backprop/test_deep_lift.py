"""DeepLIFT against closed forms, the papers' examples, and the faults it was made to avoid."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum.attr import (
    DeepLift,
    DeepLiftShap,
    LayerDeepLift,
    LayerDeepLiftShap,
    LayerLRP,
    NeuronDeepLift,
    NeuronDeepLiftShap,
)
from captum.errors import BaselineError, CaptumWarning, InputError, InputTypeError
from tests.models import model_named
from tests.subjects import subject

D = torch.float64


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=D)


class Net(nn.Module):
    """Every kind of call in one small image classifier."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.second = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.dense, self.out = nn.Linear(36, 8), nn.Linear(8, 3)
        self.norm.running_mean.normal_()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv(x)), inplace=True)
        x = x - F.gelu(self.second(x))
        x = F.max_pool2d(torch.cat([x, -x], 1)[:, :4], 3, 2)
        x = torch.tanh(self.dense(F.pad(x, (0, 1, 0, 1)).flatten(1)))
        return F.softmax(self.out(F.layer_norm(x, [8]) * x.sigmoid()), 1)


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return Net().double().eval()


X, X0 = drawn(2, 3, 8, 8, seed=1), drawn(2, 3, 8, 8, seed=2)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel", "genomics"])
def test_inputs_and_both_sides_of_every_layer_are_complete(net: nn.Module, rule) -> None:
    _, delta = DeepLift(net, rule=rule).attribute(X, X0, 1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-14
    for layer in (net.conv, net.norm, net.dense, net.out):
        for side in (False, True):
            values, delta = LayerDeepLift(net, layer, rule=rule).attribute(
                X, X0, 1, return_convergence_delta=True, attribute_to_layer_input=side
            )
            assert delta.abs().max() < 1e-14
            change = (net(X) - net(X0))[:, 1]
            torch.testing.assert_close(values.flatten(1).sum(1), change.detach(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel", "genomics"])
def test_at_the_baseline_multipliers_are_the_gradient(net: nn.Module, rule) -> None:
    multipliers = DeepLift(net, multiply_by_inputs=False, rule=rule).attribute(X, X, 1)
    leaf = X.clone().requires_grad_()
    torch.testing.assert_close(multipliers, torch.autograd.grad(net(leaf)[:, 1].sum(), leaf)[0])


@pytest.mark.parametrize("rule", ["rescale", "reveal_cancel"])
def test_rows_do_not_mix_and_chunks_do_not_show(net: nn.Module, rule) -> None:
    method = DeepLift(net, rule=rule)
    whole = method.attribute(X, X0, [1, 2])
    for row, target in enumerate((1, 2)):
        one = method.attribute(X[row : row + 1], X0[row : row + 1], target)
        torch.testing.assert_close(one, whole[row : row + 1])
    torch.testing.assert_close(method.attribute(X, X0, [1, 2], internal_batch_size=1), whole)


def _pool_by_hand(x: Tensor, x0: Tensor, size: int, stride: int) -> Tensor:
    """Multipliers of Σ max over windows: all of Δout to the place of the more extreme output."""
    out = torch.zeros_like(x)
    for row in range(len(x)):
        for start in range(0, x.shape[1] - size + 1, stride):
            here, there = x[row, start : start + size], x0[row, start : start + size]
            place = int(here.argmax() if here.max() >= there.max() else there.argmax())
            out[row, start + place] += (here.max() - there.max()) / (here[place] - there[place])
    return out


@pytest.mark.parametrize(("size", "stride"), [(2, 2), (3, 1), (3, 2), (4, 2)])
def test_max_pooling_by_hand(size: int, stride: int) -> None:
    class Pool(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.max_pool1d(x[:, None], size, stride).sum((1, 2))

    x, x0 = drawn(3, 9, seed=3), drawn(3, 9, seed=4)
    found = DeepLift(Pool(), multiply_by_inputs=False).attribute(x, x0)
    torch.testing.assert_close(found, _pool_by_hand(x, x0, size, stride))


def test_adjacent_activations_chain() -> None:
    """ReLU, sigmoid and max-pool right after each other: products of secants."""
    model = nn.Sequential(nn.ReLU(), nn.Dropout(), nn.Identity(), nn.Sigmoid(), nn.Tanh()).eval()
    x, x0 = drawn(2, 5, seed=5), drawn(2, 5, seed=6)
    found = DeepLift(model, multiply_by_inputs=False).attribute(x, x0, 3)
    want = torch.zeros_like(x)
    want[:, 3] = ((model(x) - model(x0)) / (x - x0))[:, 3]
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("baseline", ["constant maps", "another image"])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2, 1)], ids=str)
def test_nothing_between_a_relu_and_a_max_pool_makes_no_difference(pool: nn.Module, baseline: str) -> None:
    """A convolution that hands its values on, put between them, separates their rules elsewhere."""
    torch.manual_seed(0)
    first, last = nn.Conv2d(1, 3, 3), nn.Linear(27, 2)
    apart = nn.Conv2d(3, 3, 1, groups=3, bias=False)
    apart.weight.data.fill_(1)
    x = drawn(2, 1, 8, 8, seed=1)
    there = torch.full_like(x, 0.5) if baseline == "constant maps" else drawn(2, 1, 8, 8, seed=2)
    near, far = (
        DeepLift(nn.Sequential(first, nn.ReLU(), *between, pool, nn.Flatten(), last).double()).attribute(x, there, 1)
        for between in ((), (apart,))
    )
    torch.testing.assert_close(near, far, rtol=1e-10, atol=1e-13)


def test_the_model_sees_the_rows_of_the_inputs_alone() -> None:
    model, seen = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double(), []
    model[1].register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0].detach().clone()))
    x, x0 = drawn(5, 3, seed=1), drawn(5, 3, seed=2)
    _, delta = DeepLift(model).attribute(x, x0, 1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-14
    assert len(seen) == 1
    torch.testing.assert_close(seen[0], model[0](x).detach())


def test_one_module_many_times_and_modules_made_on_the_way() -> None:
    relu = nn.ReLU(inplace=True)

    class Again(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.relu = nn.Linear(3, 5), nn.Linear(5, 5), relu

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.b(self.relu(self.a(x)).relu()))
            return nn.Softplus()(self.relu(self.b(x)))

    model = Again().double()
    _, delta = DeepLift(model).attribute(drawn(2, 3, seed=1), drawn(2, 3, seed=2), 1, return_convergence_delta=True)
    assert delta.abs().max() < 1e-14


def test_hooks_of_the_user_do_not_matter() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    want = DeepLift(model).attribute(X[0, :, :3, 0], X0[0, :, :3, 0])
    model[1].register_full_backward_hook(lambda *_: None)
    torch.testing.assert_close(DeepLift(model).attribute(X[0, :, :3, 0], X0[0, :, :3, 0]), want)


class Least(nn.Module):
    """min(i₁, i₂) = i₁ − max(i₁ − i₂, 0), the example of section 3.3 of the paper."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(2, 1, bias=False), nn.Linear(2, 1, bias=False)
        for layer in (self.inner, self.out):
            layer.weight.data = torch.tensor([[1.0, -1.0]])

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.cat([x[:, :1], F.relu(self.inner(x))], 1))


def test_the_papers_example_of_reveal_cancel() -> None:
    x = torch.tensor([[4.0, 2.0], [2.0, 4.0], [3.0, 1.0]])
    torch.testing.assert_close(DeepLift(Least()).attribute(x), torch.tensor([[0.0, 2.0], [2.0, 0.0], [0.0, 1.0]]))
    shared = DeepLift(Least(), rule="reveal_cancel").attribute(x)
    torch.testing.assert_close(shared, torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.5, 0.5]]))


def test_genomics_follows_rescale_after_convolutions_and_reveal_cancel_after_dense_layers() -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv1d(4, 3, 5), nn.ReLU(), nn.Flatten(), nn.Linear(12, 1)).double()
    x, x0 = drawn(2, 4, 8, seed=1), drawn(2, 4, 8, seed=2)
    found = DeepLift(conv, rule="genomics").attribute(x, x0)
    torch.testing.assert_close(found, DeepLift(conv).attribute(x, x0))
    dense = nn.Sequential(nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 1)).double()
    found = DeepLift(dense, rule="genomics").attribute(x, x0)
    torch.testing.assert_close(found, DeepLift(dense, rule="reveal_cancel").attribute(x, x0))
    assert not torch.allclose(found, DeepLift(dense).attribute(x, x0))


def test_baselines_of_each_example_its_own() -> None:
    """Shuffled sequences: a function of the inputs that returns ``(B, N, *)``."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(4, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2)).double()
    x = F.one_hot(torch.randint(0, 4, (3, 8)), 4).to(D).transpose(1, 2)
    orders = [torch.randperm(8) for _ in range(5)]

    def shuffled(inputs: Tensor) -> Tensor:
        return torch.stack([inputs[:, :, order] for order in orders], 1)

    values, deltas = DeepLiftShap(model).attribute(x, shuffled, 1, return_convergence_delta=True)
    singles = [DeepLift(model).attribute(x, lambda t, o=order: t[:, :, o], 1) for order in orders]
    torch.testing.assert_close(values, torch.stack(singles).mean(0))
    assert deltas.shape == (15,)
    assert deltas.abs().max() < 1e-14
    chunks = DeepLiftShap(model).attribute(x, shuffled, 1, internal_batch_size=4)
    torch.testing.assert_close(chunks, values)


def test_deltas_of_pairs_come_example_by_example() -> None:
    model = nn.Linear(2, 1).double()
    x, cloud = drawn(2, 2, seed=1), drawn(3, 2, seed=2)
    halves = DeepLiftShap(model).attribute(
        x, cloud, return_convergence_delta=True, custom_attribution_func=lambda m, i, b: (0 * m[0],)
    )[1]
    want = -torch.stack([model(a[None]) - model(b[None]) for a in x for b in cloud]).flatten()
    torch.testing.assert_close(halves, want.detach())


def test_custom_attributions_get_what_they_ask_for() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    x, x0 = drawn(2, 2, seed=1), drawn(2, 2, seed=2)
    plain = DeepLift(model, multiply_by_inputs=False).attribute(x, x0)
    for custom, want in (
        (lambda m: m, plain), (lambda m, i: (m[0] * i[0],), plain * x),
        (lambda m, i, b: (m[0] * (i[0] - b[0]),), plain * (x - x0)),
    ):  # fmt: skip
        torch.testing.assert_close(DeepLift(model).attribute(x, x0, custom_attribution_func=custom), want)
    for wrong in (3, lambda: 1, lambda a, b, c, d: a):
        with pytest.raises(AssertionError):
            DeepLift(model).attribute(x, x0, custom_attribution_func=wrong)


def test_neurons_are_scores() -> None:
    whole = subject("cnn")
    x0 = whole.inputs.flip(0)
    found = NeuronDeepLift(whole.model, whole.module).attribute(whole.inputs, whole.neuron, x0)
    with torch.no_grad():
        taken: list[Tensor] = []
        handle = whole.module.register_forward_hook(lambda _m, _i, out: taken.append(out[(slice(None), *whole.neuron)]))
        whole.model(whole.inputs), whole.model(x0)
        handle.remove()
    torch.testing.assert_close(found.flatten(1).sum(1), taken[0] - taken[1], rtol=1e-4, atol=1e-6)
    one = NeuronDeepLiftShap(whole.model, whole.module).attribute(whole.inputs, whole.neuron, torch.cat([x0[:1]] * 2))
    torch.testing.assert_close(
        one, NeuronDeepLift(whole.model, whole.module).attribute(whole.inputs, whole.neuron, x0[:1])
    )


def test_a_layer_with_a_way_around_it_is_no_reason_to_warn() -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return (x + torch.relu(self.layer(x))).sum(1)

    model = Around().double()
    x = drawn(2, 3, seed=1)
    _, delta = LayerDeepLift(model, model.layer).attribute(x, return_convergence_delta=True)
    torch.testing.assert_close(delta, -x.sum(1))


def test_change_that_no_derivative_follows_is_told_with_its_size() -> None:
    class Cut(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[:, 0] + 10 * x[:, 1].detach()

    with pytest.warns(CaptumWarning, match=r"miss the change of the score by up to 20"):
        DeepLift(Cut()).attribute(torch.ones(1, 2), torch.tensor([[1.0, -1.0]]))


@pytest.mark.parametrize("name", ["resnet18", "bert", "gpt2", "vit", "lstm"])
def test_real_architectures_are_complete_in_single_precision(name: str) -> None:
    whole = subject(name)
    x = whole.inputs
    other = x.roll(1, 0) if x.is_floating_point() else x.roll(1, 0).roll(1, 1)
    values, delta = DeepLift(whole.model).attribute(
        x, other, whole.target, whole.arguments, return_convergence_delta=True
    )
    change = values.flatten(1).sum(1) - delta
    assert (delta.abs() <= 1e-5 * change.abs() + 1e-6 * values.abs().flatten(1).sum(1)).all()
    assert change.abs().min() > 0


def test_mistakes_are_named() -> None:
    model = nn.Linear(2, 1)
    x = torch.ones(2, 2)
    with pytest.raises(InputTypeError, match=r"nn\.Module"):
        DeepLift(lambda t: t)
    with pytest.raises(InputError, match="rule"):
        DeepLift(model, rule="odd").attribute(x)
    with pytest.raises(BaselineError, match="use DeepLift"):
        DeepLiftShap(model).attribute(x, torch.ones(1, 2))
    with pytest.raises(AssertionError):
        DeepLiftShap(model).attribute(x, 0.0)
    with pytest.raises(BaselineError):
        DeepLift(model).attribute(x, torch.ones(3, 2))
    with pytest.raises(BaselineError, match="no parameter or one"):
        DeepLift(model).attribute(x, lambda a, b: a)


def test_settings_of_layers_are_kept() -> None:
    model = model_named("mlp")
    layer = LayerDeepLiftShap(model, model.act1, multiply_by_inputs=False, eps=1e-3, rule="reveal_cancel")
    assert not layer.multiplies_by_inputs
    assert layer.eps == 1e-3
    assert layer._comparison.rule == "reveal_cancel"


class WithShare(nn.Module):
    """A layer that gives a tensor without rows beside its value, as position biases of T5, or one that rows make."""

    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.inside = nn.Linear(3, 3)
        self.constant = constant

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.inside(x), self.inside.bias[None] if self.constant else x.sum(0, keepdim=True)


class UsesShare(nn.Module):
    def __init__(self, constant: bool) -> None:
        super().__init__()
        self.layer = WithShare(constant)

    def forward(self, x: Tensor) -> Tensor:
        value, shared = self.layer(x)
        return (value * shared).tanh().sum(1)


def test_a_layer_with_a_tensor_that_rows_make_together_is_refused() -> None:
    model, x = UsesShare(constant=False), torch.randn(2, 3)
    with pytest.raises(InputError, match="choose one inside it"):
        LayerDeepLift(model, model.layer).attribute(x)
    with pytest.raises(InputError, match="choose a module inside"):
        LayerLRP(model, model.layer).attribute(x, return_convergence_delta=True)
    assert LayerDeepLift(model, model.layer.inside).attribute(x).shape == (2, 3)


def test_a_tensor_without_rows_that_does_not_vary_explains_nothing() -> None:
    model, x = UsesShare(constant=True), torch.randn(2, 3)
    for method in (LayerDeepLift, LayerLRP):
        value, bias = method(model, model.layer).attribute(x)
        torch.testing.assert_close(value, method(model, model.layer.inside).attribute(x))
        assert bias.shape == (2, 3)
        assert not bias.any()
