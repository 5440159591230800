"""Tasks of the methods with backward rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarks.bench import loops, nets
from benchmarks.bench.task import Contender, Task, Work, faster, lighter, near_bare

TARGET = 285
TOKENS = 256


def _deep_lift(attr: Any, _: Contender) -> Work:
    explainer, x = attr.DeepLift(nets.seeded(nets.ResNet18)), nets.images(4)
    return lambda: explainer.attribute(x, baselines=0.0, target=TARGET)


def _once(build: Callable[[], nn.Module], rows: torch.Tensor) -> Work:
    """One forward and backward pass."""
    model = nets.seeded(build)
    return lambda: loops.gradients(model, rows, TARGET, (len(rows), "plain"))


def _deep_lift_bare(_: Any, __: Contender) -> Work:
    return _once(nets.ResNet18, torch.cat([nets.images(4), torch.zeros_like(nets.images(4))]))


def _relevance(attr: Any, _: Contender) -> Work:
    explainer, x = attr.LRP(nets.seeded(nets.VGG16)), nets.images()
    return lambda: explainer.attribute(x, target=TARGET)


def _relevance_bare(_: Any, __: Contender) -> Work:
    return _once(nets.VGG16, nets.images())


def _ids() -> torch.Tensor:
    return torch.randint(0, 500, (1, TOKENS), generator=torch.Generator().manual_seed(0))


def _attention_relevance(attr: Any, _: Contender) -> Work:
    explainer, ids = attr.LRP(nets.seeded(nets.CausalTransformer), composite="attn_lrp"), _ids()
    return lambda: explainer.attribute(ids, target=3)


def _attention_bare(_: Any, __: Contender) -> Work:
    model, ids = nets.seeded(nets.CausalTransformer), _ids()

    def run() -> object:
        found: list[torch.Tensor] = []
        handle = model.get_submodule("tokens").register_forward_hook(lambda *seen: found.append(seen[-1]))
        score = model(ids)[:, 3].sum()
        handle.remove()
        return torch.autograd.grad(score, found)

    return run


RULE_TASKS = (
    Task(
        "deep_lift",
        "DeepLift, 4 images, ResNet-18 224², against one pass of the doubled batch",
        _deep_lift,
        ("DeepLift",),
        (faster(1.3), near_bare(1.2), lighter(1.0)),
        bare=_deep_lift_bare,
        agree=None,
        apart="there the ReLU before the max pool misses its correction; without that pair both agree to 1e-15",
    ),
    Task(
        "lrp",
        "LRP-ε, VGG-16 224², against one pass",
        _relevance,
        ("LRP",),
        (faster(3.0), near_bare(2.5), lighter(1.0)),
        bare=_relevance_bare,
        agree=1e-3,
    ),
    Task(
        "attn_lrp",
        "Attention-aware LRP, 6-layer language model, 256 tokens, against one pass",
        _attention_relevance,
        ("LRP",),
        (near_bare(2.0),),
        bare=_attention_bare,
        agree=None,
        alone=True,
    ),
)
