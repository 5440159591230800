"""Influence functions against a dense Hessian, against leaving examples out, and against published numbers."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum.errors import InputError
from captum.influence import NaiveInfluenceFunction
from captum.influence.arnoldi import ArnoldiInfluenceFunction
from captum.influence.influence_function import InfluenceFunctionBase
from tests.unit.influence.parts import DATA, TEST, X, Y, as_it_is, cross_entropy, gradients, load, net, state

NAMES = ["0.weight", "0.bias", "2.weight", "2.bias"]
FLOATS = TensorDataset(X.float(), Y)
FLOAT_TEST = (TEST[0].float(), TEST[1])


def dense_hessian(model: nn.Module, names: list[str], x: Tensor = X, y: Tensor = Y) -> Tensor:
    named = {n: p.detach() for n, p in model.named_parameters()}
    sizes = [named[n].numel() for n in names]

    def total(flat: Tensor) -> Tensor:
        parts = {n: v.reshape(named[n].shape) for n, v in zip(names, flat.split(sizes), strict=True)}
        return cross_entropy("sum")(torch.func.functional_call(model, {**named, **parts}, x), y)

    return torch.autograd.functional.hessian(total, torch.cat([named[n].flatten() for n in names]))


def solved(reg: float, tol: float, count: int, names: list[str] = NAMES, test_loss: nn.Module | None = None) -> Tensor:
    """gᵀ (H + λ I)⁻¹ g' in the eigenvectors that are kept."""
    model = net()
    hessian = dense_hessian(model, names)
    values, vectors = torch.linalg.eigh(hessian + reg * torch.eye(len(hessian), dtype=hessian.dtype))
    kept = [i for i in values.argsort(descending=True).tolist() if values[i] > tol][:count]
    inverse = sum(torch.outer(vectors[:, i], vectors[:, i]) / values[i] for i in kept)
    loss = cross_entropy("none")
    tests = gradients(model, names, test_loss or loss, *TEST)
    return tests @ inverse @ gradients(model, names, loss, X, Y).T


def naive(reduction: str = "none", layers: list[str] | None = None, batch_size: int = 3, **kwargs: object):
    loss, per_batch = cross_entropy(reduction), reduction != "none"
    return NaiveInfluenceFunction(
        net(), DATA, 1, as_it_is, layers, loss, batch_size, sample_wise_grads_per_batch=per_batch, **kwargs
    )


def arnoldi(**kwargs: object) -> ArnoldiInfluenceFunction:
    loss = cross_entropy("none")
    model = net().float()
    return ArnoldiInfluenceFunction(model, FLOATS, 1, as_it_is, None, loss, 3, seed=4, **kwargs)


@pytest.mark.parametrize("batch_size", [1, 3, 50])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
def test_scores_are_products_under_the_inverse_hessian(reduction, batch_size):
    found = naive(reduction, batch_size=batch_size, hessian_reg=1e-3, hessian_inverse_tol=1e-4)
    torch.testing.assert_close(found.influence(TEST), solved(1e-3, 1e-4, 50))


@pytest.mark.parametrize("layers", [["2"], ["0"]])
def test_chosen_layers(layers):
    names = [n for n in NAMES if n[0] in layers]
    found = naive(layers=layers, hessian_reg=1e-3).influence(TEST)
    torch.testing.assert_close(found, solved(1e-3, 1e-5, 50, names))


@pytest.mark.parametrize("count", [1, 4])
def test_the_largest_eigenvalues_are_kept(count):
    found = naive(projection_dim=count, hessian_reg=1e-2)
    assert found.R.shape == (31, count)
    torch.testing.assert_close(found.influence(TEST), solved(1e-2, 1e-5, count))


def test_published_numbers():
    """What captum 0.9.0 returns for the same calls."""
    found = naive(projection_dim=6, hessian_reg=1e-3, hessian_inverse_tol=1e-4)
    first = torch.tensor([-0.342579, 0.365303, 0.361455, -0.045743, 0.127161, 1.268986, -0.125730])
    torch.testing.assert_close(found.influence(TEST)[0], first.double(), rtol=0, atol=1e-6)
    alone = torch.tensor([0.300458, 1.854940, 0.847274, 0.048574, 1.297218, 1.636914, 0.045268])
    torch.testing.assert_close(found.self_influence(), alone.double(), rtol=0, atol=1e-6)
    first = torch.tensor([-1.071063e-01, 1.991674, 7.882866, -2.625424e-01, -2.456688, 6.446175e-01, -3.979013e-01])
    torch.testing.assert_close(naive().influence(TEST)[0], first.double(), rtol=1e-5, atol=1e-5)
    assert naive().R.shape == (31, 13)
    found = arnoldi(arnoldi_dim=8, arnoldi_tol=1e-6, projection_dim=5)
    first = torch.tensor([-0.324247, 0.255404, -0.043799, -0.084417, 0.767734, 0.648796, -0.100731])
    torch.testing.assert_close(found.influence(FLOAT_TEST)[0], first, rtol=0, atol=2e-5)
    found = arnoldi()
    first = torch.tensor([-0.906655, 2.504778, -15.674374, 0.567888, -3.430316, 3.826851, -0.604483])
    torch.testing.assert_close(found.influence(FLOAT_TEST)[0], first, rtol=1e-3, atol=1e-4)
    assert found.compute_intermediate_quantities(FLOAT_TEST).shape == (2, 12)


def test_a_whole_krylov_space_gives_the_naive_scores():
    loss = cross_entropy("none")
    options = {"hessian_reg": 1e-3, "hessian_inverse_tol": 1e-4}
    krylov = ArnoldiInfluenceFunction(
        net(), DATA, 1, as_it_is, None, loss, 3, arnoldi_dim=100, arnoldi_tol=0.0, **options
    )
    torch.testing.assert_close(krylov.influence(TEST), naive(**options).influence(TEST), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(krylov.self_influence(), naive(**options).self_influence(), rtol=1e-5, atol=1e-6)


def test_leaving_an_example_out():
    """For a quadratic loss one Newton step is exact up to the curvature of the example itself."""
    torch.manual_seed(0)
    x, y = torch.randn(400, 3).double(), torch.randn(400, 1).double()
    tests = (torch.randn(2, 3).double(), torch.randn(2, 1).double())

    def fitted(keep: Tensor) -> nn.Linear:
        model = nn.Linear(3, 1, bias=False).double()
        model.weight.data = torch.linalg.lstsq(x[keep], y[keep]).solution.T.contiguous()
        return model

    def losses(model: nn.Linear) -> Tensor:
        return (model(tests[0]) - tests[1]).square().squeeze(1).detach()

    everyone = torch.arange(400)
    model = fitted(everyone)
    scores = NaiveInfluenceFunction(
        model, TensorDataset(x, y), 1, as_it_is, loss_fn=nn.MSELoss(reduction="none"), batch_size=100
    ).influence(tests)
    for out in range(5):
        change = losses(fitted(everyone[everyone != out])) - losses(model)
        torch.testing.assert_close(scores[:, out], change, rtol=0.05, atol=2e-4)


@pytest.mark.parametrize("proponents", [True, False])
@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_best_are_those_of_the_whole_matrix_with_the_test_loss(k, proponents):
    other = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.5)
    method = naive(test_loss_fn=other, hessian_reg=1e-3)
    whole = method.influence(TEST)
    torch.testing.assert_close(whole, solved(1e-3, 1e-5, 50, test_loss=other))
    best = method.influence(DataLoader(TensorDataset(*TEST), batch_size=1), k, proponents)
    values, places = whole.topk(min(k, 7), largest=proponents)
    assert best.indices.tolist() == places.tolist()
    torch.testing.assert_close(best.influence_scores, values)


def test_vectors_and_influence_on_itself():
    other = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.5)
    method = naive(test_loss_fn=other)
    rows = method.compute_intermediate_quantities((X, Y))
    torch.testing.assert_close(method.compute_intermediate_quantities(TEST, test=True) @ rows.T, method.influence(TEST))
    torch.testing.assert_close(method.self_influence(), rows.square().sum(1))
    torch.testing.assert_close(method.self_influence((X[1:3], Y[1:3])), rows[1:3].square().sum(1))
    shuffled = DataLoader(DATA, batch_size=2, shuffle=True)
    summed = method.compute_intermediate_quantities(shuffled, aggregate=True, return_on_cpu=False)
    torch.testing.assert_close(summed, rows.sum(0, keepdim=True))


def test_other_data_for_the_hessian():
    found = NaiveInfluenceFunction(
        net(), DATA, 1, as_it_is, loss_fn=cross_entropy("none"), hessian_reg=1e-2,
        hessian_dataset=DataLoader(TensorDataset(X[:4], Y[:4]), batch_size=3, shuffle=True),
    )  # fmt: skip
    model, loss = net(), cross_entropy("none")
    hessian = dense_hessian(model, NAMES, X[:4], Y[:4]) + 1e-2 * torch.eye(31, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(hessian)
    kept = values > 1e-5
    inverse = vectors[:, kept] / values[kept] @ vectors[:, kept].T
    wanted = gradients(model, NAMES, loss, *TEST) @ inverse @ gradients(model, NAMES, loss, X, Y).T
    torch.testing.assert_close(found.influence(TEST), wanted)


@pytest.mark.parametrize("kind", [NaiveInfluenceFunction, ArnoldiInfluenceFunction])
def test_nothing_is_left_behind(kind):
    model = net()
    model[0].bias.requires_grad_(False)
    torch.manual_seed(1)
    before = state(model)
    method = kind(model, DATA, 0.5, load, ["0", "2"], cross_entropy("none"), 3)
    assert state(model) == before
    first = method.influence(TEST)
    method.influence(TEST, k=2)
    method.self_influence()
    assert state(model) == before
    with torch.no_grad():
        model[0].weight.zero_()
    torch.testing.assert_close(method.influence(TEST), first)
    assert not bool(model[0].weight.any())


def test_attention_has_a_second_derivative():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(4, 2, 4, batch_first=True, activation="gelu")
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(8, 3)).double().eval()
    x = torch.sin(torch.arange(56.0)).double().reshape(7, 2, 4)
    layers, loss = ["0.self_attn"], cross_entropy("none")
    found = NaiveInfluenceFunction(
        model, TensorDataset(x, Y), 1, as_it_is, layers, loss, 3, projection_dim=None, hessian_reg=30.0
    ).influence((x[:2], Y[:2]))
    names = [n for n, _ in model.named_parameters() if "self_attn" in n]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        hessian = dense_hessian(model, names, x, Y)
    rows = gradients(model, names, loss, x, Y)
    wanted = rows[:2] @ torch.linalg.solve(hessian + 30 * torch.eye(len(hessian)).double(), rows.T)
    torch.testing.assert_close(found, wanted)


def test_mistakes_are_told():
    with pytest.raises(AssertionError, match="loss_fn for NaiveInfluenceFunction"):
        NaiveInfluenceFunction(net(), DATA, 1, as_it_is)
    with pytest.raises(InputError, match="reduction 'none', got 'mean'"):
        NaiveInfluenceFunction(net(), DATA, 1, as_it_is, loss_fn=cross_entropy("mean"))
    with pytest.raises(InputError, match="hessian_inverse_tol"):
        naive(hessian_inverse_tol=1e9)
    with pytest.raises(InputError, match="projection_dim"):
        naive(projection_dim=0)
    with pytest.raises(InputError, match="shuffle=False"):
        NaiveInfluenceFunction(net(), DataLoader(DATA, shuffle=True), 1, as_it_is, loss_fn=cross_entropy("none"))
    with pytest.raises(InputError, match="arnoldi_dim"):
        arnoldi(arnoldi_dim=1)
    with pytest.raises(InputError, match="arnoldi_tol"):
        arnoldi(arnoldi_tol=100.0)
    with pytest.raises(AssertionError, match="self_influence"):
        naive().influence(None)
    with pytest.raises(InputError, match="positive integer"):
        naive().influence(TEST, k=-1)
    with pytest.raises(TypeError, match="abstract"):
        InfluenceFunctionBase(net(), DATA, 1)


def test_progress_is_drawn(capsys):
    naive(show_progress=True).influence(TEST, show_progress=True)
    text = capsys.readouterr().err
    assert "NaiveInfluenceFunction Hessian: 100%" in text
    assert "NaiveInfluenceFunction influence: 100%" in text
