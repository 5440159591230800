"""Scenes: a seeded model with inputs, targets, baselines, layers and neurons to ask about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.parity import models
from benchmarks.parity.models import draw, seeded


@dataclass(frozen=True)
class Scene:
    """Everything that a family of cases needs to call its algorithms on one model."""

    model: nn.Module
    inputs: Any
    target: Any
    baselines: Any
    distribution: Any
    layers: tuple[str, ...] = ()
    neurons: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    extra: Any = None

    def layer(self, name: str) -> nn.Module:
        """The module at a path of the model."""
        return self.model.get_submodule(name)

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of a gradient method."""
        return {"inputs": self.inputs, "target": self.target, "additional_forward_args": self.extra}


def toy_input() -> Tensor:
    """The two rows of the getting-started guide."""
    return torch.tensor([[0.29611, 0.51656, 0.25167], [0.68856, 0.07397, 0.86652]])


def toy() -> Scene:
    """The getting-started model."""
    return Scene(
        seeded(models.Toy),
        toy_input(),
        0,
        torch.zeros(2, 3),
        draw(10, 3, seed=7) * 0.001,
        layers=("lin1", "relu", "lin2"),
        neurons={"lin1": (1, (2,)), "relu": (0, (slice(0, 2),)), "lin2": (1,)},
    )


def perceptron() -> Scene:
    """tanh and ReLU, per-row targets as a tensor."""
    return Scene(
        seeded(models.Perceptron),
        draw(4, 5),
        torch.tensor([0, 2, 1, 2]),
        draw(1, 5, seed=2),
        draw(6, 5, seed=3),
        layers=("first", "tanh", "second", "relu", "last"),
        neurons={"first": (3, (slice(1, 4),)), "tanh": (0,), "second": ((5,),), "relu": (2,)},
    )


def perceptron64() -> Scene:
    """The same in float64."""
    base = perceptron()
    wide = {"inputs": base.inputs.double(), "baselines": base.baselines.double()}
    return Scene(
        base.model.double(),
        wide["inputs"],
        [0, 2, 1, 2],
        wide["baselines"],
        base.distribution.double(),
        layers=("first", "tanh"),
        neurons={"tanh": (0,)},
    )


def conv_inplace() -> Scene:
    """Convolutions with in-place ReLU, one class for all rows."""
    return Scene(
        seeded(models.InplaceConvNet),
        draw(3, 2, 8, 8),
        1,
        0.1,
        draw(4, 2, 8, 8, seed=3),
        layers=("conv1", "relu1", "pool1", "conv2", "relu2", "fc"),
        neurons={"pool1": ((1, 2, 3), (slice(0, 2), 1, 1)), "conv2": ((0, 1, 1),), "fc": (2,)},
    )


def conv_pooled() -> Scene:
    """A convolutional net with a disjoint max-pool."""
    return Scene(
        seeded(models.PooledConvNet),
        draw(2, 1, 6, 6),
        torch.tensor(2),
        draw(2, 1, 6, 6, seed=2),
        draw(3, 1, 6, 6, seed=3),
        layers=("conv1", "relu1", "pool"),
        neurons={"conv1": ((0, 1, 1),), "pool": ((1, 0, 2),)},
    )


def residual() -> Scene:
    """A residual net written with functional operators, batch norm in eval mode."""
    return Scene(
        seeded(models.FunctionalResNet),
        draw(2, 3, 10, 10),
        [3, 0],
        torch.zeros(1, 3, 10, 10),
        draw(3, 3, 10, 10, seed=3),
        layers=("stem", "block1", "block1.norm1", "block2.conv2", "fc"),
        neurons={"block1": ((0, 1, 1),), "fc": (-1,)},
    )


def recurrent() -> Scene:
    """An LSTM classifier."""
    return Scene(
        seeded(models.Recurrent),
        draw(3, 7, 4),
        -1,
        draw(3, 7, 4, seed=2),
        draw(5, 7, 4, seed=3),
        layers=("fc",),
        neurons={"fc": (0,)},
    )


def vectors() -> Scene:
    """A transformer on feature vectors, one output per step and class: index-tuple targets."""
    return Scene(
        seeded(models.VectorTransformer),
        draw(2, 5, 8),
        (3, 1),
        None,
        draw(3, 5, 8, seed=3),
        layers=("block1", "block1.norm2", "block2.mlp", "block2.mlp.1"),
        neurons={"block1": ((2, 3),), "head": ((4, 2),)},
    )


def vectors_frozen() -> Scene:
    """The same with parameters that do not require gradients."""
    base = vectors()
    base.model.requires_grad_(False)
    layers = ("block1", "block1.norm2", "block2.mlp.1")
    return Scene(base.model, base.inputs, base.target, None, base.distribution, layers, {"block1": ((2, 3),)})


def two_inputs() -> Scene:
    """A tuple of inputs, constant arguments: one tensor per row and one switch."""
    return Scene(
        seeded(models.TwoInputs),
        (draw(3, 3), draw(3, 2, 3, seed=4)),
        [(1,), (0,), (1,)],
        (0.2, draw(3, 2, 3, seed=5)),
        (draw(4, 3, seed=6), draw(4, 2, 3, seed=7)),
        layers=("left", "relu"),
        neurons={"left": (1,), "relu": ((slice(0, 3),),)},
        extra=(torch.tensor([0.5, 1.0, 1.5]), True),
    )


def split_layers() -> Scene:
    """Layers with two tensors on one side."""
    return Scene(
        seeded(models.Splitting),
        draw(3, 4),
        1,
        0,
        draw(4, 4, seed=3),
        layers=("split", "join"),
        neurons={"join": (1,), "split": (pick_second,)},
    )


def relu_only() -> Scene:
    """Bias-free linear layers and ReLU modules."""
    return Scene(
        seeded(models.ReluOnly),
        draw(3, 4),
        1,
        draw(3, 4, seed=2),
        draw(4, 4, seed=3),
        layers=("first", "relu1", "second", "relu2"),
        neurons={"first": (2,), "relu1": (0,), "second": (3,)},
    )


def pick_second(tensors: tuple[Tensor, ...]) -> Tensor:
    """A neuron selector over a layer of several tensors."""
    return tensors[1][:, 0] * tensors[0][:, 2]


def tokens() -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """The token transformer, its ids, reference ids and mask."""
    ids = torch.randint(1, 20, (3, 6), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[True] * 6, [True] * 5 + [False], [True] * 4 + [False] * 2])
    return seeded(models.Transformer), ids, torch.zeros_like(ids), mask


SCENES: dict[str, Callable[[], Scene]] = {
    "toy": toy,
    "perceptron": perceptron,
    "perceptron64": perceptron64,
    "conv_inplace": conv_inplace,
    "conv_pooled": conv_pooled,
    "residual": residual,
    "recurrent": recurrent,
    "vectors": vectors,
    "vectors_frozen": vectors_frozen,
    "two_inputs": two_inputs,
    "split_layers": split_layers,
    "relu_only": relu_only,
}
