from __future__ import annotations

import warnings
from collections import UserDict
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

import captum
from captum import explain
from captum.attr import InputXGradient, IntegratedGradients, LayerIntegratedGradients, NoiseTunnel, Saliency
from captum.errors import CaptumError, CaptumWarning, InputError, InputTypeError, LayerError, TargetError


@pytest.fixture
def mlp() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.GELU(), nn.Linear(6, 4)).eval()


@pytest.fixture
def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5)]
    return nn.Sequential(*layers).eval()


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 3), nn.Linear(4, 3)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.a(left) + self.b(right).tanh()


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 5)
        self.head = nn.Linear(5, 2)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.embedding(input_ids).tanh().mean(1))


@pytest.fixture
def rows() -> Tensor:
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(1))


def test_defaults_explain_the_highest_score_of_each_row(mlp: nn.Module, rows: Tensor) -> None:
    e = explain(mlp, rows)
    best = mlp(rows).argmax(1)
    assert e.targets == tuple(best.tolist())
    expected, delta = IntegratedGradients(mlp).attribute(rows, target=best, return_convergence_delta=True)
    assert torch.equal(e.attributions, expected)
    assert torch.equal(e.residual, delta)
    assert torch.allclose(e.scores, mlp(rows).max(1).values)
    assert torch.equal(e.outputs, mlp(rows))
    zeros = mlp(torch.zeros_like(rows))[range(3), best]
    assert torch.allclose(e.baseline_scores, zeros.double(), atol=1e-5)
    assert e.method == "integrated_gradients"
    assert e.version == captum.__version__
    assert e.seconds > 0
    assert not e.attributions.requires_grad


@pytest.mark.parametrize("shape", [(), (1,)])
def test_one_score_needs_no_target(shape: tuple[int, ...], rows: Tensor) -> None:
    e = explain(lambda x: (x**2).sum(1).reshape(-1, *shape), rows)
    assert torch.allclose(e.attributions, rows**2, atol=1e-5)
    assert e.target_names == ("the output",) * 3
    assert e.outputs is None


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (1, (1, 1, 1)),
        ([0, 1, 2], (0, 1, 2)),
        (torch.tensor([2, 2, 0]), (2, 2, 0)),
        ((3,), ((3,),) * 3),
        ("argmax", None),
    ],
)
def test_forms_of_target(mlp: nn.Module, rows: Tensor, target: object, expected: object) -> None:
    e = explain(mlp, rows, "saliency", target)
    assert e.targets == (expected or tuple(mlp(rows).argmax(1).tolist()))
    assert torch.equal(e.attributions, Saliency(mlp).attribute(rows, target=target))


def test_function_as_target(mlp: nn.Module, rows: Tensor) -> None:
    e = explain(mlp, rows, "saliency", lambda out: out[:, 0] - out[:, 1])
    assert e.target_names == ("a function of the output",) * 3
    assert torch.allclose(e.scores, mlp(rows)[:, 0] - mlp(rows)[:, 1])


def test_output_with_more_axes_asks_for_a_target() -> None:
    with pytest.raises(TargetError, match="target is needed"):
        explain(lambda x: x[:, :, None] * torch.ones(2), torch.ones(2, 3))


@pytest.mark.parametrize("method", [IntegratedGradients, "IntegratedGradients", "Integrated gradients"])
def test_ways_to_name_a_method(mlp: nn.Module, rows: Tensor, method: object) -> None:
    e = explain(mlp, rows, method, 0, n_steps=9)
    assert e.method == "integrated_gradients"
    assert e.arguments == {"n_steps": 9}
    assert torch.equal(e.attributions, IntegratedGradients(mlp).attribute(rows, target=0, n_steps=9))


@pytest.mark.parametrize("noise", [None, {"nt_samples": 2, "stdevs": 0.0}])
def test_quadrature_is_the_methods_own_method(mlp: nn.Module, rows: Tensor, noise: object) -> None:
    e = explain(mlp, rows, target=0, quadrature="riemann_trapezoid", n_steps=4, noise_tunnel=noise)
    plain = IntegratedGradients(mlp)
    expected = plain.attribute(rows, target=0, method="riemann_trapezoid", n_steps=4)
    assert torch.allclose(e.attributions, expected)
    assert not torch.allclose(expected, plain.attribute(rows, target=0, n_steps=4), rtol=1e-3)
    assert e.arguments["quadrature"] == "riemann_trapezoid"
    layer = explain(mlp, rows, target=0, layer="0", quadrature="riemann_left", n_steps=4)
    own = LayerIntegratedGradients(mlp, mlp[0]).attribute(rows, target=0, method="riemann_left", n_steps=4)
    assert torch.equal(layer.attributions, own)


def test_object_as_method_keeps_its_own_settings(mlp: nn.Module, rows: Tensor) -> None:
    e = explain(mlp, rows, IntegratedGradients(mlp, multiply_by_inputs=False), 0)
    expected = IntegratedGradients(mlp, multiply_by_inputs=False).attribute(rows, target=0)
    assert torch.equal(e.attributions, expected)
    assert e.residual is None
    again = explain(mlp, rows, "integrated_gradients", 0, multiply_by_inputs=False)
    assert torch.equal(again.attributions, expected)


def test_own_class_as_method(mlp: nn.Module, rows: Tensor) -> None:
    class Mine(Saliency):
        def attribute(self, inputs: Tensor, target: object = None, scale: float = 1.0) -> Tensor:
            return super().attribute(inputs, target) * scale

    e = explain(mlp, rows, Mine(mlp), 0, scale=2.0)
    assert e.method == "Mine"
    assert torch.equal(e.attributions, Saliency(mlp).attribute(rows, target=0) * 2)


def test_list_of_methods_gives_a_dict(mlp: nn.Module, rows: Tensor) -> None:
    found = explain(mlp, rows, ["saliency", InputXGradient, "saliency"], 0)
    assert list(found) == ["saliency", "input_x_gradient", "saliency_2"]
    assert torch.equal(found["input_x_gradient"].attributions, InputXGradient(mlp).attribute(rows, target=0))


def test_tuple_and_dict_inputs_come_back_in_their_structure() -> None:
    model = Two().eval()
    left, right = torch.randn(2, 2), torch.randn(2, 4)
    as_tuple = explain(model, (left, right), target=1)
    for inputs in ({"left": left, "right": right}, {"right": right, "left": left}, UserDict(left=left, right=right)):
        e = explain(model, inputs, target=1)
        assert type(e.attributions) is type(inputs)
        assert torch.allclose(e.attributions["left"], as_tuple.attributions[0])
        assert torch.allclose(e.feature("right"), as_tuple.attributions[1])
        assert float(e.residual.abs().max()) < 1e-4
    names = [feature.name for feature in explain(model, inputs, feature_names={"left": ["x", "y"]}).top(9)]
    assert {"left: x", "left: y"} < set(names)


def test_dataclass_input() -> None:
    @dataclass
    class Batch:
        left: Tensor
        right: Tensor

    model = Two().eval()
    batch = Batch(torch.randn(2, 2), torch.randn(2, 4))
    e = explain(lambda b: model(b.left, b.right), batch, "saliency", 0)
    assert isinstance(e.attributions, Batch)
    assert e.feature("right").shape == (2, 4)


@pytest.mark.parametrize("method", ["integrated_gradients", "saliency", "gradient_shap", "input_x_gradient"])
def test_token_ids_give_one_score_per_token(method: str) -> None:
    model = Words().eval()
    ids = torch.tensor([[1, 2, 3], [4, 4, 0]])
    e = explain(model, {"input_ids": ids}, method, 1, tokens=[["a", "b", "c"], ["d", "d", "e"]])
    assert e.attributions["input_ids"].shape == (2, 3)
    assert e[0].top(1)[0].name in {"a", "b", "c"}
    assert e.to_frame()["feature"].tolist() == ["a", "b", "c", "d", "d", "e"]


def test_baselines_default_to_zeros_where_one_is_needed(mlp: nn.Module, rows: Tensor) -> None:
    e = explain(mlp, rows, "gradient_shap", 0, seed=3)
    assert "zeros" in e.notes[0]
    again = explain(mlp, rows, "gradient_shap", 0, baselines=torch.zeros(1, 3), seed=3)
    assert torch.equal(e.attributions, again.attributions)
    assert again.notes == ()
    assert e.residual.shape == (3,)


def test_layer_by_module_and_by_name(cnn: nn.Module) -> None:
    x = torch.randn(2, 3, 8, 8)
    by_name = explain(cnn, x, "layer_grad_cam", 0, layer="0")
    by_module = explain(cnn, x, "layer_grad_cam", 0, layer=cnn[0])
    assert torch.equal(by_name.attributions, by_module.attributions)
    assert by_name.layer == by_module.layer == "0"


def test_layer_or_neuron_makes_the_sibling(mlp: nn.Sequential, rows: Tensor) -> None:
    e = explain(mlp, rows, "integrated_gradients", 0, layer="1")
    assert e.method == "layer_integrated_gradients"
    assert torch.equal(e.attributions, LayerIntegratedGradients(mlp, mlp[1]).attribute(rows, target=0))
    assert explain(mlp, rows, "conductance", 0, layer="1").method == "layer_conductance"
    neuron = explain(mlp, rows, "gradient", layer="1", neuron_selector=2)
    assert neuron.method == "neuron_gradient"
    assert neuron.targets == ()
    assert neuron.scores is None


def test_several_layers_give_a_list(mlp: nn.Sequential, rows: Tensor) -> None:
    e = explain(mlp, rows, "layer_activation", layer=["0", mlp[2]])
    assert [tensor.shape[1] for tensor in e.attributions] == [6, 4]
    assert e.layer == "0, 2"


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"method": "layer_grad_cam"}, LayerError, "needs layer="),
        ({"method": "layer_grad_cam", "layer": "head"}, LayerError, "no layer 'head'"),
        ({"method": "layer_grad_cam", "layer": 3}, InputTypeError, "dotted name"),
        ({"method": "neuron_gradient", "layer": "0"}, InputError, "needs neuron_selector="),
        ({"method": "saliency", "layer": "0"}, InputError, "no layer form"),
        ({"method": "salience"}, InputError, "did you mean 'saliency'"),
        ({"method": 3}, InputTypeError, "name, an attribution class"),
        ({"n_step": 5}, InputError, "did you mean n_steps"),
        ({"quadrature": "simpson"}, InputError, "gausslegendre.*'simpson'"),
        ({"quadratur": "riemann_left"}, InputError, "did you mean quadrature"),
        ({"method": "saliency", "quadrature": "riemann_left"}, InputError, "no argument 'quadrature'"),
        ({"target": 9}, InputError, "0…3"),
        ({"feature_names": ["a", "b"]}, InputError, "2 names"),
        ({"feature_names": {"y": ["a"]}}, InputError, "'y'"),
        ({"feature_names": 3}, InputTypeError, "list of texts"),
        ({"tokens": [["a"]]}, InputError, "3 in all"),
        ({"modality": "smell"}, InputError, "tabular, text, image, series"),
        ({"noise_tunnel": {"samples": 3}}, InputError, "no argument 'samples'"),
        ({"noise_tunnel": "smoothgrid"}, InputError, "smoothgrad"),
        ({"class_names": {-4: "a"}}, InputError, "class_names"),
    ],
)
def test_mistakes_are_named(
    mlp: nn.Module, rows: Tensor, arguments: dict[str, object], kind: type[CaptumError], text: str
) -> None:
    with pytest.raises(kind, match=text):
        explain(mlp, rows, **arguments)


def test_training_mode_warns_and_is_kept(mlp: nn.Module, rows: Tensor) -> None:
    mlp.train()
    with pytest.warns(CaptumWarning, match="eval") as caught:
        explain(mlp, rows)
    assert caught[0].filename == __file__
    assert mlp.training


def test_no_warning_in_ordinary_use(mlp: nn.Module, rows: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        explain(mlp, rows, ["saliency", "integrated_gradients", "gradient_shap"])


def test_noise_tunnel_is_the_noise_tunnel(mlp: nn.Module, rows: Tensor) -> None:
    chosen = {"nt_type": "smoothgrad_sq", "nt_samples": 4, "stdevs": 0.3, "seed": 5}
    e = explain(mlp, rows, "saliency", 0, noise_tunnel=chosen)
    expected = NoiseTunnel(Saliency(mlp)).attribute(rows, target=0, **chosen)
    assert torch.equal(e.attributions, expected)
    assert e.arguments["noise_tunnel"]["nt_samples"] == 4
    assert e.residual is None


@pytest.mark.parametrize("noise", [True, "smoothgrad", {}])
def test_noise_is_a_share_of_the_range(mlp: nn.Module, rows: Tensor, noise: object) -> None:
    noise = noise if noise != {} else {"nt_samples": 5}
    e = explain(mlp, rows, target=0, noise_tunnel=noise)
    assert e.arguments["noise_tunnel"]["stdevs"] == pytest.approx(0.15 * float(rows.max() - rows.min()))
    assert e.residual.shape == (3,)


def test_constants_of_the_model(rows: Tensor) -> None:
    e = explain(lambda x, k: (x * k).sum(1), rows, "saliency", additional_forward_args=(3.0,))
    assert torch.equal(e.attributions, torch.full_like(rows, 3.0))


def test_names_of_classes_come_from_list_dict_or_config(mlp: nn.Module, rows: Tensor) -> None:
    assert explain(mlp, rows, "saliency", 2, class_names=list("wxyz")).target_names == ("y",) * 3
    assert explain(mlp, rows, "saliency", 2, class_names={2: "cat"}).target_names == ("cat",) * 3
    mlp.config = SimpleNamespace(id2label={0: "no", 1: "yes", 2: "maybe", 3: "never"})
    assert explain(mlp, rows, "saliency", 2).target_names == ("maybe",) * 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_kept(mlp: nn.Module, rows: Tensor, dtype: torch.dtype) -> None:
    assert explain(mlp.to(dtype), rows.to(dtype), "saliency").attributions.dtype == dtype


def test_inputs_are_left_alone(mlp: nn.Module, rows: Tensor) -> None:
    rows.requires_grad_()
    e = explain(mlp, rows)
    assert rows.requires_grad
    assert rows.grad is None
    assert not e.inputs.requires_grad
    assert all(p.grad is None for p in mlp.parameters())


def test_model_is_asked_once_for_several_methods(rows: Tensor) -> None:
    calls: list[int] = []

    def model(x: Tensor) -> Tensor:
        calls.append(len(x))
        return x.sum(1)

    explain(model, rows, ["saliency", "input_x_gradient"])
    assert len(calls) == 3


def test_saved_and_loaded(mlp: nn.Module, rows: Tensor, tmp_path: Callable[..., object]) -> None:
    e = explain(mlp, rows, noise_tunnel=True, layer=None, feature_names=["a", "b", "c"])
    back = captum.Explanation.load(e.save(tmp_path / "e"))
    assert torch.equal(back.attributions, e.attributions)
    assert back.arguments == e.arguments
    assert repr(back) == repr(e)


@pytest.mark.parametrize("method", ["integrated_gradients", "gradient_x_activation", "feature_ablation", "grad_cam"])
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_rows_of_a_layer_with_the_batch_second(method: str, batch: int) -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.mix, self.head = nn.Linear(4, 3), nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            steps = self.mix(x.transpose(0, 1))
            return self.head(steps[-1] * steps.mean(0)).tanh()

    model, x = Turned().eval(), torch.randn(batch, 5, 4)
    if method == "gradient_x_activation" and batch == 5:
        return  # looks for no batch: five of five steps are all the same to it
    e = explain(model, x, method, target=1, layer="mix")
    assert len(e) == len(e.attributions) == batch
    for row in range(batch):
        alone = explain(model, x[row : row + 1], method, target=1, layer="mix")
        torch.testing.assert_close(e.attributions[row], alone.attributions[0], rtol=1e-3, atol=1e-5)


def test_steps_that_were_chosen_are_told() -> None:
    found = explain(
        torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).eval(), torch.rand(2, 3), n_steps="auto"
    )
    used = found.arguments["n_steps_used"]
    assert isinstance(used, int)
    assert used >= 1
    assert "n_steps_used" not in explain(torch.nn.Linear(3, 1).eval(), torch.rand(2, 3), n_steps=4).arguments


def test_what_belongs_to_the_noise_is_said_so() -> None:
    model, x = torch.nn.Linear(3, 1).eval(), torch.rand(2, 3)
    with pytest.raises(InputError, match=r"'seed': those of NoiseTunnel go into noise_tunnel=\{'nt_type': …, 'seed'"):
        explain(model, x, "saliency", noise_tunnel=True, seed=1)
    with pytest.raises(InputError, match="did you mean 'integrated_gradients'"):
        explain(model, x, "ig")
    with pytest.raises(LayerError, match="no layer 'body': it has no modules inside"):
        explain(model, x, "layer_activation", layer="body")


class Frames(nn.Module):
    """Frames of a clip beside the batch, inside."""

    def __init__(self) -> None:
        super().__init__()
        self.map, self.out = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, clip: Tensor) -> Tensor:
        return self.out(self.map(clip.flatten(0, 1)).relu().mean((2, 3))).unflatten(0, (len(clip), -1)).mean(1)


@pytest.mark.parametrize("method", ["layer_activation", "layer_gradient_x_activation", "layer_grad_cam"])
def test_a_layer_with_several_rows_for_each_row(method: str) -> None:
    torch.manual_seed(0)
    model, clip = Frames().eval(), torch.rand(2, 5, 3, 8, 8)
    with pytest.raises(LayerError, match=r"\(10, \d, 6, 6\) cannot be told apart by the 2 rows .* one row at a time"):
        explain(model, clip, method, layer="map")
    found = explain(model, clip[:1], method, layer="map")
    assert isinstance(found.attributions, Tensor)
    assert found.attributions.shape[:2] == (1, 5)
    assert set(found.to_frame().row) == {0}
    torch.testing.assert_close(found[0].attributions, found.attributions)
