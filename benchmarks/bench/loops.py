"""Bare torch: what a careful person would write by hand for one job. The limit that nothing can beat by much."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

CHUNKS = (4, 8, 16, 25, 50)
SETTINGS = tuple(
    f"{chunk}/{memory}" for memory in ("plain", "channels_last", "channels_last_model") for chunk in CHUNKS
)


def parse(setting: str) -> tuple[int, str]:
    """Chunk size and memory format of a setting such as ``8/channels_last``."""
    chunk, memory = setting.split("/")
    return int(chunk), memory


def arranged(model: nn.Module, memory: str) -> nn.Module:
    """The model itself, or a copy with its weights in channels-last order."""
    if memory != "channels_last_model":
        return model
    return copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def chunks(rows: Tensor, setting: tuple[int, str]) -> Iterator[Tensor]:
    """The rows in chunks of the setting's size and memory format."""
    for part in rows.split(setting[0]):
        yield part if setting[1] == "plain" else part.contiguous(memory_format=torch.channels_last)


def integrated_gradients(model: nn.Module, x: Tensor, target: int, steps: int, setting: tuple[int, str]) -> Tensor:
    """Integrated gradients of one image from a black one."""
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    alphas = torch.tensor((nodes + 1) / 2, dtype=x.dtype).view(-1, 1, 1, 1)
    scale = torch.tensor(weights / 2, dtype=x.dtype).view(-1, 1, 1, 1)
    total = torch.zeros_like(x)
    start = 0
    for part in chunks(alphas * x, setting):
        points = part.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(model(points)[:, target].sum(), points)
        total += (gradient * scale[start : start + len(part)]).sum(0, keepdim=True)
        start += len(part)
    return x * total


def gradients(model: nn.Module, rows: Tensor, target: int, setting: tuple[int, str]) -> Tensor:
    """The gradient of every row."""
    found = []
    for part in chunks(rows, setting):
        points = part.detach().requires_grad_()
        found += torch.autograd.grad(model(points)[:, target].sum(), points)
    return torch.cat(found)


def forwards(model: nn.Module, rows: Tensor, target: int, setting: tuple[int, str]) -> Tensor:
    """The score of every row, without gradients."""
    with torch.inference_mode():
        return torch.cat([model(part)[:, target] for part in chunks(rows, setting)])
