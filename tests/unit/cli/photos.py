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
