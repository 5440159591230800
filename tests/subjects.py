"""A subject is a model with something to say about it: inputs, score, layer, neuron, baselines."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor, nn

from tests.models import Staged, fresh_model, model_named, seeded

Inputs = Tensor | tuple[Tensor, ...]


@dataclass(frozen=True)
class Subject:
    """Everything an algorithm may need, so that one row of the case table can be called on any of them.

    ``baselines`` is one reference point and ``cloud`` a distribution of them; ``layer`` is a module path, and
    ``neuron`` selects one unit of that layer's output.
    """

    name: str
    model: nn.Module
    inputs: Inputs
    target: object = None
    layer: str = ""
    neuron: object = 0
    baselines: object = None
    cloud: object = None
    arguments: object = None
    spatial: str | None = None  # the layer a class activation map can be made of, if there is one
    options: dict[str, object] = field(default_factory=dict)

    def but(self, **changes: object) -> Subject:
        """The same subject with some fields changed."""
        return replace(self, **changes)

    @property
    def module(self) -> nn.Module:
        """The layer itself."""
        return self.model.get_submodule(self.layer)

    def score(self, *inputs: Tensor) -> Tensor:
        """The explained score of each row, by hand."""
        with torch.no_grad():
            out = self.model(*inputs, *as_tuple(self.arguments))
        out = getattr(out, "logits", out)
        rows = out.shape[0]
        if self.target is None:
            return out.reshape(rows)
        if isinstance(self.target, (list, Tensor)):
            return out[torch.arange(rows), torch.as_tensor(self.target)]
        index = self.target if isinstance(self.target, tuple) else (self.target,)
        return out[(slice(None), *index)]


def as_tuple(value: object) -> tuple[object, ...]:
    """None, one value or a tuple, as a tuple."""
    if value is None:
        return ()
    return value if isinstance(value, tuple) else (value,)


def drawn(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    """Normal numbers that depend on the seed alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def ids(*shape: int, high: int, seed: int = 1) -> Tensor:
    """Token ids that depend on the seed alone; 0 is left for padding."""
    return torch.randint(1, high, shape, generator=torch.Generator().manual_seed(seed))


def _mlp(model: nn.Module) -> Subject:
    target = torch.tensor([0, 2, 1])
    return Subject("mlp", model, drawn(3, 4), target, "act1", 2, drawn(1, 4, seed=2) * 0.1, drawn(5, 4, seed=3) * 0.1)


def _cnn(model: nn.Module) -> Subject:
    x, cloud = drawn(2, 3, 8, 8), drawn(3, 3, 8, 8, seed=3) * 0.1
    return Subject("cnn", model, x, 1, "conv2", (3, 1, 0), None, cloud, spatial="conv2")


def _resnet18(model: nn.Module) -> Subject:
    x, cloud = drawn(2, 3, 64, 64), drawn(2, 3, 64, 64, seed=3) * 0.1
    return Subject("resnet18", model, x, (8,), "layer4", (5, 1, 1), None, cloud, spatial="layer4")


def _residual(model: nn.Module) -> Subject:
    return Subject(
        "residual", model, drawn(3, 5), [1, 0, 2], "inlet", 3, drawn(3, 5, seed=2) * 0.1, drawn(4, 5, seed=3)
    )


def _lstm(model: nn.Module) -> Subject:
    return Subject("lstm", model, drawn(3, 4, 3), 2, "project", (1, 2), 0.1, drawn(4, 4, 3, seed=3))


def _embeddings(model: nn.Module) -> Subject:
    return Subject("embeddings", model, ids(3, 5, high=11), 1, "gate", (2, 3), torch.zeros(1, 5, dtype=torch.long),
                   torch.zeros(2, 5, dtype=torch.long))  # fmt: skip


def _tabular(model: nn.Module) -> Subject:
    categories = torch.tensor([[1, 3], [4, 0]])
    start = (torch.zeros(1, 3), torch.zeros(1, 2, dtype=torch.long))
    cloud = (drawn(4, 3, seed=2), torch.zeros(4, 2, dtype=torch.long))
    return Subject("tabular", model, (drawn(2, 3), categories), 1, "hidden", 4, start, cloud)


def _pair(model: nn.Module) -> Subject:
    inputs = (drawn(2, 3), drawn(2, 2, seed=2))
    cloud = (drawn(4, 3, seed=4), drawn(4, 2, seed=5))
    return Subject("pair", model, inputs, 0, "gate", 3, (drawn(2, 3, seed=3), 0.0), cloud, torch.tensor([1.0, 2.0]))


def _attention(model: nn.Module) -> Subject:
    return Subject("attention", model, drawn(2, 5, 8), 1, "norm", 3)


def _bert(model: nn.Module) -> Subject:
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[1, 4] = 0
    blank = torch.zeros(1, 5, dtype=torch.long)
    return Subject("bert", model, ids(2, 5, high=17), 1, "bert.encoder.layer.0.output", (3, 7), blank,
                   blank.repeat(2, 1), mask)  # fmt: skip


def _gpt2(model: nn.Module) -> Subject:
    blank = torch.zeros(1, 5, dtype=torch.long)
    return Subject("gpt2", model, ids(2, 5, high=17), (-1, 5), "transformer.h.0.mlp", (3, 7), blank, blank.repeat(2, 1))


def _vit(model: nn.Module) -> Subject:
    x, cloud = drawn(2, 3, 16, 16), drawn(2, 3, 16, 16, seed=3) * 0.1
    norm = "vit.layers.1.layernorm_before"
    return Subject("vit", model, x, 2, norm, (3, 7), None, cloud, spatial=norm)


_MAKERS = {
    "mlp": _mlp, "cnn": _cnn, "resnet18": _resnet18, "residual": _residual, "lstm": _lstm, "embeddings": _embeddings,
    "tabular": _tabular, "pair": _pair, "bert": _bert, "gpt2": _gpt2, "vit": _vit, "attention": _attention,
}  # fmt: skip
TENSOR_SUBJECTS = ("mlp", "cnn", "residual", "lstm", "resnet18", "vit")
TOKEN_SUBJECTS = ("embeddings", "tabular", "bert", "gpt2")
SPATIAL = ("cnn", "resnet18", "vit")
ATTENDING = ("attention", "bert", "gpt2", "vit")
SLOW = ("resnet18", "vit", "bert", "gpt2", "tabular")
SUBJECTS = (*TENSOR_SUBJECTS, "pair", *TOKEN_SUBJECTS, "attention")


def subject(name: str) -> Subject:
    """The subject of that name around the shared model of that name."""
    return _MAKERS[name](model_named(name))


def fresh_subject(name: str) -> Subject:
    """The subject of that name around a model of its own, free to be changed."""
    return _MAKERS[name](fresh_model(name))


def staged(body: nn.Module, inputs: Inputs, target: int = 0, *, place: str = "input", **more: object) -> Subject:
    """A subject on which the input, the layer and the neuron family must say the same: see ``Staged``."""
    layer = "last" if place == "neuron" else "first"
    model = Staged(body).eval().to(next((p.dtype for p in body.parameters()), torch.float32))
    return Subject("staged", model, inputs, target, layer, target, spatial="first", **more)  # type: ignore[arg-type]


@cache
def smooth_body(features: int = 4, classes: int = 3) -> nn.Module:
    """A smooth function in double precision."""
    from tests.models import Mlp

    return seeded(lambda: Mlp(features, 6, classes, nn.Softplus)).double()
