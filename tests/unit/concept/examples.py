"""A small model and concepts made of closed forms, so that every program makes the same ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from captum.concept import Classifier, Concept

HIDDEN = torch.tensor([[1.0, -2, 0.5], [0, 1, 1], [-1, 0.5, 2], [0.3, 0.2, -1]])
HEAD = torch.tensor([[1.0, -1, 0.5, 2], [-0.5, 1, 0, 1]])
INPUTS = torch.cos(torch.arange(15.0)).reshape(5, 3) * 2


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lin, self.relu, self.head = nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)
        with torch.no_grad():
            self.lin.weight.copy_(HIDDEN)
            self.lin.bias.copy_(torch.tensor([0.1, -0.2, 0.3, 0]))
            self.head.weight.copy_(HEAD)
            self.head.bias.zero_()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.head(self.relu(self.lin(x)))


class Batches:
    """Batches that count how often they were read."""

    def __init__(self, batches: list[Tensor]) -> None:
        self.batches = batches
        self.reads = 0

    def __iter__(self):
        for batch in self.batches:
            self.reads += 1
            yield batch


def batches(shift: float) -> list[Tensor]:
    x = torch.sin(torch.arange(60.0) * (1.7 + shift)).reshape(20, 3) + torch.tensor([shift, 0.0, -shift])
    return list(x.split(8))


def three() -> tuple[Concept, Concept, Concept]:
    """Concepts with ids 0, 1 and 2, of 20 examples each in three batches."""
    return tuple(Concept(i, "abc"[i], Batches(batches(shift))) for i, shift in enumerate((1.0, 0.0, -0.7)))


class Means(Classifier):
    """Weights are the means of the classes; classes come in falling order of their ids."""

    trained = 0

    def train_and_eval(self, dataloader, **kwargs):
        rows = list(dataloader)
        x, y = (torch.cat([row[part] for row in rows]) for part in (0, 1))
        self.ids = sorted(set(y.tolist()), reverse=True)
        self.means = torch.stack([x[y == i].mean(0) for i in self.ids])
        self.trained += 1
        return {"options": sorted(kwargs), "rows": len(x)}

    def weights(self):
        return self.means

    def classes(self):
        return self.ids


def files(place: Path) -> list[str]:
    return sorted(str(path.relative_to(place)) for path in place.rglob("*") if path.is_file())
