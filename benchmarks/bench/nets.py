"""The networks that are timed: written here in plain torch, random seeded weights, eval mode."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Generator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# pixels per side of the images; --size makes them smaller for a quick look
SIZE = int(os.environ.get("BENCH_SIZE", "224"))
_DTYPE = [torch.float32]


@contextlib.contextmanager
def double() -> Generator[None]:
    """Give out the same networks and numbers in double precision."""
    _DTYPE.append(torch.float64)
    try:
        yield
    finally:
        _DTYPE.pop()


class BasicBlock(nn.Module):
    """Two 3×3 convolutions with batch norm and a skip; each activation is a module of its own, in place."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outside)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outside)
        self.relu2 = nn.ReLU(inplace=True)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inside != outside:
            self.downsample = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W')."""
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + self.downsample(x))


class ResNet18(nn.Module):
    """ResNet-18 (He 2015) for 224×224 images and 1000 classes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(64, 64, 1), BasicBlock(64, 64, 1))
        self.layer2 = nn.Sequential(BasicBlock(64, 128, 2), BasicBlock(128, 128, 1))
        self.layer3 = nn.Sequential(BasicBlock(128, 256, 2), BasicBlock(256, 256, 1))
        self.layer4 = nn.Sequential(BasicBlock(256, 512, 2), BasicBlock(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, 1000)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class VGG16(nn.Module):
    """VGG-16 (Simonyan 2014): thirteen convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        inside = 3
        for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
            for _ in range(depth):
                parts += [nn.Conv2d(inside, width, 3, padding=1), nn.ReLU(inplace=True)]
                inside = width
            parts.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*parts)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 49, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 4096),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(4096, 1000),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 224, 224) to (N, 1000)."""
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


class CausalTransformer(nn.Module):
    """A GPT-2-like language model: learned positions, pre-norm blocks, GELU, tied width 256, vocabulary 500."""

    def __init__(self, depth: int = 6, width: int = 256, heads: int = 8) -> None:
        super().__init__()
        self.tokens = nn.Embedding(500, width)
        self.positions = nn.Embedding(512, width)
        self.blocks = nn.ModuleList(CausalBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, 500, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, T) ids to the (N, 500) scores of the next token."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, -1]))


class CausalBlock(nn.Module):
    """Causal self-attention and a feed-forward layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, D) to the same shape."""
        n, t, d = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, t, d))
        return x + self.mlp(self.norm2(x))


def perceptron(inside: int, hidden: int, outside: int) -> nn.Module:
    """Three linear layers with ReLU."""
    return nn.Sequential(
        nn.Linear(inside, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outside)
    )


def seeded(build: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """The network with weights from ``seed``, batch-norm statistics that are not trivial, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.running_var = torch.rand(module.num_features) + 0.5
    return net.eval().to(_DTYPE[-1])


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers from ``seed``."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(_DTYPE[-1])


def images(count: int = 1) -> Tensor:
    """Random images."""
    return draw(count, 3, SIZE, SIZE)
