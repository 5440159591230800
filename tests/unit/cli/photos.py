"""A small photo and a small classifier in a file, as a user would bring them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

FACTORY = '''
import torch
from torch import nn

class Left(nn.Module):
    """Class 1 counts the brightness of the left half, class 0 that of the right half."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        nn.init.constant_(self.conv.weight, 1 / 27)
        self.relu = nn.ReLU()

    def forward(self, x):
        maps = self.relu(self.conv(x)).mean(1)
        left, right = maps.tensor_split(2, dim=2)
        return torch.stack([right.sum((1, 2)), left.sum((1, 2))], 1) / 100

def bare():
    return Left()

def full():
    def prepare(photo):
        grey = photo.resize((16, 12)).convert("L").tobytes()
        return torch.tensor(list(grey)).view(1, 12, 16).expand(3, -1, -1) / 255

    return Left(), prepare, ["right", "left"]

def wrong():
    return 3

def broken():
    raise RuntimeError("no such weights\\nsecond line")

def bad_prepare():
    return Left(), lambda photo: photo, None

class Logits(Left):
    def forward(self, x):
        return {"logits": super().forward(x), "image": x}

def keyed():
    return Logits()

class Lost(Left):
    def forward(self, x):
        return super().forward(x) * float("nan")

def lost():
    return Lost()

def maps():
    return nn.Conv2d(3, 2, 1)

class Vision(nn.Module):
    """A vision transformer of one layer: 3 × 4 patches after a class token."""

    def __init__(self, patches):
        super().__init__()
        torch.manual_seed(0)
        self.patches, self.classes = patches, nn.Parameter(torch.randn(1, 1, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        tokens = torch.cat([self.classes, self.patches(x).flatten(2).transpose(1, 2)], 1)
        return self.head(self.layer(tokens)[:, 0])

def vision():
    _, prepare, names = full()
    return Vision(nn.Conv2d(3, 8, 4, stride=4)), prepare, names

class Cut(nn.Module):
    """Patches that no convolution reads: 24 of 2 × 4, that is, no squares."""

    def __init__(self):
        super().__init__()
        self.flat = nn.Linear(24, 8)

    def forward(self, x):
        rows = x.unflatten(3, (4, 4)).unflatten(2, (6, 2)).permute(0, 2, 4, 1, 3, 5)
        return self.flat(rows.flatten(3)).permute(0, 3, 1, 2)

def uncertain():
    _, prepare, names = full()
    return Vision(Cut()), prepare, names

def flat():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), None, {0: "a", 1: "b"}
'''


def photo(folder: Path, name: str = "photo.png") -> Path:
    """A 24 × 18 picture whose left half is bright."""
    pixels = np.zeros((18, 24, 3), dtype=np.uint8)
    pixels[:, :12] = (200, 180, 160)
    path = folder / name
    Image.fromarray(pixels).save(path)
    return path


def factory_file(folder: Path) -> Path:
    path = folder / "mine.py"
    path.write_text(FACTORY, encoding="utf-8")
    return path
