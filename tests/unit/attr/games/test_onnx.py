"""Sessions of ONNX Runtime are explained like the modules whose weights they carry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum import attr
from captum.attr.games.adapters import onnx_session
from captum.errors import InputError, OutputError
from tests.subjects import drawn

onnx = pytest.importorskip("onnx")
runtime = pytest.importorskip("onnxruntime")
FLOAT, INT = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
Shape = tuple[Any, ...]


class Counted:
    """A session that notes how many rows it is asked for."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.rows: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[Any]:
        self.rows.append(len(next(iter(feed.values()))))
        return self.session.run(names, feed)


def session(
    nodes: list[Any],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    weights: dict[str, Any],
) -> Counted:
    """A session for a graph built by hand."""
    graph = onnx.helper.make_graph(
        nodes,
        "graph",
        [onnx.helper.make_tensor_value_info(name, *form) for name, form in inputs.items()],
        [onnx.helper.make_tensor_value_info(name, *form) for name, form in outputs.items()],
        [onnx.numpy_helper.from_array(w.detach().numpy(), name) for name, w in weights.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return Counted(runtime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]))


def perceptron() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    for number, parameter in enumerate(net.parameters()):
        parameter.data = drawn(*parameter.shape, seed=number)
    return net


def as_session(net: nn.Sequential, rows: Any = "rows") -> Counted:
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w1", "b1"], ["h"], transB=1),
        onnx.helper.make_node("Relu", ["h"], ["a"]),
        onnx.helper.make_node("Gemm", ["a", "w2", "b2"], ["y"], transB=1),
        onnx.helper.make_node("ArgMax", ["y"], ["label"], axis=1, keepdims=0),
    ]
    weights = dict(zip(("w1", "b1", "w2", "b2"), net.parameters(), strict=True))
    return session(nodes, {"x": (FLOAT, (rows, 6))}, {"label": (INT, (rows,)), "y": (FLOAT, (rows, 3))}, weights)


METHODS = {
    "ablation": (attr.FeatureAblation, {}),
    "permutation": (attr.FeaturePermutation, {"seed": 0}),
    "shapley": (attr.ShapleyValues, {}),
    "sampling": (attr.ShapleyValueSampling, {"n_samples": 4, "seed": 0}),
    "kernel": (attr.KernelShap, {"n_samples": 30, "seed": 0}),
    "occlusion": (attr.Occlusion, {"sliding_window_shapes": (2,)}),
}


@pytest.mark.parametrize("rows", ["rows", 1, 4], ids=lambda rows: f"batch of {rows}")
@pytest.mark.parametrize("name", METHODS)
def test_as_the_module(name: str, rows: Any) -> None:
    method, options = METHODS[name]
    net, x = perceptron(), drawn(3, 6, seed=9)
    found = method(onnx_session(as_session(net, rows), "y")).attribute(x, target=2, **options)
    torch.testing.assert_close(found, method(net).attribute(x, target=2, **options), rtol=1e-4, atol=1e-5)


def test_calls_are_batched() -> None:
    counted = as_session(perceptron())
    attr.KernelShap(onnx_session(counted, 1)).attribute(drawn(3, 6, seed=9), target=0, n_samples=64)
    assert sum(counted.rows) == 3 * 64 + 15 + 3  # some rows again among far ones, a coalition alone: do rows mix?
    assert len(counted.rows) <= 6
    fixed = as_session(perceptron(), 4)
    attr.FeatureAblation(onnx_session(fixed, "y")).attribute(drawn(3, 6, seed=9), target=0)
    assert set(fixed.rows) == {4}


def test_images() -> None:
    conv = nn.Conv2d(2, 4, 3).eval()
    nodes = [
        onnx.helper.make_node("Conv", ["x", "w", "b"], ["h"]),
        onnx.helper.make_node("Relu", ["h"], ["a"]),
        onnx.helper.make_node("ReduceMean", ["a"], ["y"], axes=[2, 3], keepdims=0),
    ]
    shape = ("rows", 2, 8, 8)
    weights = {"w": conv.weight, "b": conv.bias}
    forward = onnx_session(session(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, ("rows", 4))}, weights))

    def module(x: Tensor) -> Tensor:
        return torch.relu(conv(x)).mean((2, 3))

    x = drawn(2, 2, 8, 8, seed=3)
    options = {"sliding_window_shapes": (2, 3, 3), "strides": (1, 2, 2), "target": 1}
    torch.testing.assert_close(
        attr.Occlusion(forward).attribute(x, **options),
        attr.Occlusion(module).attribute(x, **options),
        rtol=1e-4,
        atol=1e-5,
    )


def test_token_ids_beside_numbers() -> None:
    table, scale = drawn(10, 3, seed=5), drawn(3, seed=6)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["e"]),
        onnx.helper.make_node("ReduceMean", ["e"], ["m"], axes=[1], keepdims=0),
        onnx.helper.make_node("Mul", ["x", "scale"], ["s"]),
        onnx.helper.make_node("Add", ["m", "s"], ["y"]),
    ]
    inputs = {"ids": (INT, ("rows", 4)), "x": (FLOAT, ("rows", 3))}
    forward = onnx_session(session(nodes, inputs, {"y": (FLOAT, ("rows", 3))}, {"table": table, "scale": scale}))

    def module(ids: Tensor, x: Tensor) -> Tensor:
        return table[ids].mean(1) + x * scale

    given = (torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), drawn(2, 3, seed=7))
    found = attr.FeatureAblation(forward).attribute(given, target=1)
    expected = attr.FeatureAblation(module).attribute(given, target=1)
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match=r"Expected 2 input\(s\), \['ids', 'x'\]; got 1"):
        forward(given[0])


def test_outputs_that_are_no_scores() -> None:
    """The first output of a classifier is often its label: ablation counts how it changes; other outputs have names."""
    counted = as_session(perceptron())
    for wrong in ("logits", 2):
        with pytest.raises(InputError, match=r"0…1 or one of \['label', 'y'\]; got"):
            onnx_session(counted, wrong)
    x = drawn(3, 6, seed=9)
    labels = perceptron()(x).argmax(1)
    found = attr.FeatureAblation(onnx_session(counted)).attribute(x)
    for feature in range(6):
        without = x.index_fill(1, torch.tensor([feature]), 0.0)
        assert torch.equal(found[:, feature], labels - perceptron()(without).argmax(1))
    words = session(
        [onnx.helper.make_node("Constant", [], ["y"], value_strings=["yes"])], {"x": (FLOAT, (1, 2))},
        {"y": (onnx.TensorProto.STRING, (1,))}, {},
    )  # fmt: skip
    with pytest.raises(OutputError, match="array of numbers"):
        attr.FeatureAblation(onnx_session(words)).attribute(drawn(1, 2, seed=0))


def test_inputs_by_name_and_what_is_no_session() -> None:
    run = session(
        [onnx.helper.make_node("Sub", ["first", "second"], ["y"])],
        {"first": (FLOAT, ("N", 2)), "second": (FLOAT, ("N", 2))}, {"y": (FLOAT, ("N", 2))}, {},
    )  # fmt: skip
    one, other = drawn(3, 2, seed=1), drawn(3, 2, seed=2)
    found = attr.FeatureAblation(onnx_session(run)).attribute({"second": other, "first": one}, target=0)
    torch.testing.assert_close(found["first"][:, 0], one[:, 0])
    torch.testing.assert_close(found["second"][:, 0], -other[:, 0])
    with pytest.raises(InputError, match=r"2 input\(s\)"):
        attr.FeatureAblation(onnx_session(run)).attribute({"second": other, "third": one}, target=0)
    with pytest.raises(InputError, match="InferenceSession"):
        onnx_session("model.onnx")
