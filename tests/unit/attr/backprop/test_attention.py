"""Attention rollout and gradient × attention, from weights read by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captum.attr import AttentionRelevance, AttentionRollout
from captum.errors import InputError


class Block(nn.Module):
    """Attention whose weights are kept, with a residual connection."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.q, self.k, self.v = (nn.Linear(6, 6) for _ in range(3))
        self.weights: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (2, 3)).transpose(1, 2) for f in (self.q, self.k, self.v))
        self.weights = torch.softmax(q @ k.mT, -1)
        return x + (nn.functional.dropout(self.weights, 0.5, training=False) @ v).transpose(1, 2).flatten(2)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(0), Block(1))
        self.head = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(x)[:, 0])


class Fused(Encoder):
    """The same with the fused attention of torch."""

    def forward(self, x: Tensor) -> Tensor:
        for b in self.blocks:
            q, k, v = (f(x).unflatten(-1, (2, 3)).transpose(1, 2) for f in (b.q, b.k, b.v))
            heads = nn.functional.scaled_dot_product_attention(q, k, v, scale=1.0)
            x = x + heads.transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


class Merged(Encoder):
    """The same with rows and heads in one dim, as by ``bmm``."""

    def forward(self, x: Tensor) -> Tensor:
        for b in self.blocks:
            q, k, v = (f(x).unflatten(-1, (2, 3)).transpose(1, 2).flatten(0, 1) for f in (b.q, b.k, b.v))
            heads = torch.bmm(torch.softmax(torch.bmm(q, k.mT), -1), v).unflatten(0, (len(x), 2))
            x = x + heads.transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


class Folded(Encoder):
    """The same with weights whose rows and heads are put into one dim after the softmax."""

    def forward(self, x: Tensor) -> Tensor:
        for b in self.blocks:
            q, k, v = (f(x).unflatten(-1, (2, 3)).transpose(1, 2) for f in (b.q, b.k, b.v))
            weights = torch.softmax(q @ k.mT, -1)
            heads = torch.bmm(weights.view(-1, 5, 5), v.flatten(0, 1)).view(len(x), 2, 5, 3)
            x = x + heads.transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


class Pooled(Encoder):
    """The same, with an attention that reads the tokens into one at the end."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(x)
        return self.head(torch.softmax((x * 0).sum(-1, keepdim=True).mT + MOSTLY_FIRST, -1) @ x)[:, 0]


MOSTLY_FIRST = torch.tensor([0.0, -1e9, -1e9, -1e9, -1e9])
KINDS = [Encoder, Fused, Merged, Folded, Pooled]
X = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(3))


def weights_and_gradients(model: Encoder) -> tuple[list[Tensor], list[Tensor]]:
    score = model(X)[:, 1].sum()
    weights = [b.weights for b in model.blocks]
    return [w.detach() for w in weights], list(torch.autograd.grad(score, weights))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("query", [0, -1])
def test_rollout(kind: type[Encoder], query: int) -> None:
    weights, _ = weights_and_gradients(Encoder())
    want = torch.eye(5).expand(2, 5, 5)
    for layer in weights:
        want = 0.5 * (layer.mean(1) + torch.eye(5)) @ want
    found = AttentionRollout(kind()).attribute(X, query=query)
    torch.testing.assert_close(found, want[:, query])
    torch.testing.assert_close(found.sum(1), torch.ones(2))


def test_rollout_reads_no_score() -> None:
    """A model may return whatever it likes."""

    class Several(Encoder):
        def forward(self, x: Tensor) -> Tensor:
            hidden = self.blocks(x)
            return {"hidden": hidden, "scores": self.head(hidden[:, 0])}  # type: ignore[return-value]

    torch.testing.assert_close(AttentionRollout(Several()).attribute(X), AttentionRollout(Encoder()).attribute(X))


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_times_attention(kind: type[Encoder]) -> None:
    want = torch.eye(5).expand(2, 5, 5)
    for layer, grad in zip(*weights_and_gradients(Encoder()), strict=True):
        want = want + (layer * grad).clamp(min=0).mean(1) @ want
    torch.testing.assert_close(AttentionRelevance(kind()).attribute(X, 1), want[:, 0])


def test_a_model_without_attention_is_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(30, 2), nn.Softmax(-1))
    with pytest.raises(InputError, match="self-attention"):
        AttentionRollout(model).attribute(X)
    with pytest.raises(InputError, match="query"):
        AttentionRollout(Encoder()).attribute(X, query=9)
