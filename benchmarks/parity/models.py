"""The models that parity cases explain: small, seeded, the same in both interpreters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Toy(nn.Module):
    """The model of the getting-started guide: 3 inputs, one ReLU, 2 outputs, written-out weights."""

    def __init__(self) -> None:
        super().__init__()
        self.lin1 = nn.Linear(3, 3)
        self.relu = nn.ReLU()
        self.lin2 = nn.Linear(3, 2)
        self.lin1.weight = nn.Parameter(torch.arange(-4.0, 5.0).view(3, 3))
        self.lin1.bias = nn.Parameter(torch.zeros(3))
        self.lin2.weight = nn.Parameter(torch.arange(-3.0, 3.0).view(2, 3))
        self.lin2.bias = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3) to (N, 2)."""
        return self.lin2(self.relu(self.lin1(x)))


class Perceptron(nn.Module):
    """Three layers, tanh and ReLU, three classes."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(5, 8)
        self.tanh = nn.Tanh()
        self.second = nn.Linear(8, 6)
        self.relu = nn.ReLU()
        self.last = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 5) to (N, 3)."""
        return self.last(self.relu(self.second(self.tanh(self.first(x)))))


class InplaceConvNet(nn.Module):
    """Convolutions with in-place ReLU and pooling that does not overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 4, 3, padding=1)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.AvgPool2d(2)
        self.conv2 = nn.Conv2d(4, 5, 3)
        self.relu2 = nn.ReLU(inplace=True)
        self.fc = nn.Linear(20, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, 8, 8) to (N, 3)."""
        x = self.pool1(self.relu1(self.conv1(x)))
        return self.fc(self.relu2(self.conv2(x)).flatten(1))


class PooledConvNet(nn.Module):
    """A convolution, a max-pool of disjoint windows, then a ReLU: the layout without adjacent non-linear modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 3, 3, padding=1)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(3, 4, 3, padding=1)
        self.pool = nn.MaxPool2d(2)
        self.fc = nn.Linear(36, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 1, 6, 6) to (N, 3)."""
        return self.fc(self.pool(self.conv2(self.relu1(self.conv1(x)))).flatten(1))


class Residual(nn.Module):
    """A residual block with batch norm and functional operators."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = F.relu(self.norm1(self.conv1(x)))
        y = self.norm2(self.conv2(y))
        y += x
        return y.relu()


class FunctionalResNet(nn.Module):
    """Two residual blocks written with functional operators and a pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.block1 = Residual(6)
        self.block2 = Residual(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, 10, 10) to (N, 4)."""
        x = self.block2(self.block1(F.silu(self.stem(x))))
        return self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))


class Recurrent(nn.Module):
    """An LSTM whose last step is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 6, batch_first=True)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, 4) to (N, 3)."""
        return self.fc(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    """One pre-norm transformer block in plain operators."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T, D) to the same shape; ``mask`` (N, T) is True where a token counts."""
        n, t, d = x.shape
        qkv = self.qkv(self.norm1(x)).view(n, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        scores = qkv[0] @ qkv[1].transpose(-2, -1) / (d // self.heads) ** 0.5
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None, None, :], float("-inf"))
        mixed = (scores.softmax(-1) @ qkv[2]).transpose(1, 2).reshape(n, t, d)
        x = x + self.out(mixed)
        return x + self.mlp(self.norm2(x))


class Transformer(nn.Module):
    """Token ids, learned positions, two attention blocks, a mean-pooled head."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 8)
        self.positions = nn.Embedding(12, 8)
        self.block1 = Attention(8, 2)
        self.block2 = Attention(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """(N, T) ids to (N, 3)."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device).expand(ids.shape))
        return self.head(self.block2(self.block1(x, mask), mask).mean(1))


class VectorTransformer(nn.Module):
    """The blocks of :class:`Transformer` on feature vectors, one output per step and class."""

    def __init__(self) -> None:
        super().__init__()
        self.block1 = Attention(8, 2)
        self.block2 = Attention(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T, 8) to (N, T, 3)."""
        return self.head(self.block2(self.block1(x)))


class TwoInputs(nn.Module):
    """Two inputs of different shapes, a constant tensor per row and a constant switch."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 4)
        self.right = nn.Linear(6, 4)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 2)

    def forward(self, a: Tensor, b: Tensor, weight: Tensor | None = None, square: bool = False) -> Tensor:
        """(N, 3) and (N, 2, 3) to (N, 2)."""
        hidden = self.relu(self.left(a) * torch.tanh(self.right(b.flatten(1))) + self.left(a))
        if weight is not None:
            hidden = hidden * weight[:, None]
        out = self.head(hidden)
        return out**2 if square else out


class Splitting(nn.Module):
    """A layer that returns two tensors and one that takes two."""

    class Split(nn.Module):
        """(N, 6) to two halves."""

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            """(N, 6) to (N, 3), (N, 3)."""
            return x[:, :3] * 2.0, x[:, 3:] * x[:, 3:]

    class Join(nn.Module):
        """Two halves to one tensor."""

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            """(N, 3), (N, 3) to (N, 3)."""
            return a * b + a

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.split = Splitting.Split()
        self.join = Splitting.Join()
        self.last = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4) to (N, 2)."""
        return self.last(self.join(*self.split(torch.sigmoid(self.first(x)))))


class ReluOnly(nn.Module):
    """Bias-free linear layers and ReLU modules: every backward rule has a closed form here."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, bias=False)
        self.relu1 = nn.ReLU()
        self.second = nn.Linear(6, 5, bias=False)
        self.relu2 = nn.ReLU()
        self.last = nn.Linear(5, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 4) to (N, 3)."""
        return self.last(self.relu2(self.second(self.relu1(self.first(x)))))


def seeded(kind: type[nn.Module], seed: int = 0) -> nn.Module:
    """A model with weights and batch-norm statistics drawn from ``seed``, in eval mode; global streams are kept."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean = torch.randn(module.num_features) * 0.1
                module.running_var = torch.rand(module.num_features) + 0.5
    return model.eval()


def draw(*shape: int, seed: int = 1) -> Tensor:
    """Normal numbers from ``seed``, without touching the global stream."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
