"""The way from token ids to the look-ups that read them, against gradients of the table's own rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum._engine.lookups import Watch
from captum.attr import InputXGradient, IntegratedGradients
from captum.errors import LayerError

MAP = torch.tensor([3, 0, 4, 5, 6, 2, 1, 10, 11, 12, 13, 14, 15, 7, 8, 9])

Read = Callable[[nn.Embedding, Tensor], Tensor]


class Reader(nn.Module):
    """Reads ids by ``read`` and weighs the vectors by their place."""

    def __init__(self, read: Read) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(16, 5)
        self.head = nn.Linear(5, 2)
        self.weights = torch.randn(12, 1)
        self.read = read

    def forward(self, *ids: Tensor) -> Tensor:
        vectors = self.read(self.table, *ids)
        return self.head(torch.tanh(vectors * self.weights[: vectors.shape[1]]).sum(1))


def written(ids: Tensor) -> Tensor:
    """Shifted to the right by writing into a fresh tensor, as decoders do."""
    shifted = ids.new_zeros(ids.shape)
    shifted[:, 1:] = ids[:, :-1].clone()
    return shifted


WAYS: dict[str, Read] = {
    "a constant in front": lambda e, i: e(torch.cat([torch.zeros(len(i), 1, dtype=i.dtype), i], 1)),
    "padded": lambda e, i: e(F.pad(i, (2, 0), value=0)),
    "through a map": lambda e, i: e(MAP[i]),
    "through a map, selected": lambda e, i: e(MAP.index_select(0, i.flatten()).view(i.shape)),
    "by keywords": lambda e, i: e(torch.flip(input=i, dims=(1,))),
    "flipped": lambda e, i: e(i.flip(1)),
    "gathered": lambda e, i: e(i.gather(1, i * 0 + torch.arange(i.shape[1]).flip(0))),
    "time first": lambda e, i: e(i.T).transpose(0, 1),
    "time first, flat": lambda e, i: e(i.T.reshape(-1)).reshape(-1, len(i), 5).transpose(0, 1),
    "folded": lambda e, i: e(i.reshape(-1, 2)).reshape(len(i), -1, 5),
    "by columns": lambda e, i: torch.stack([e(c) for c in i.T], 1),
    "windows": lambda e, i: e(i.unfold(1, 2, 1)).flatten(1, 2),
    "sliced": lambda e, i: e(i[:, 1:]),
    "twice": lambda e, i: torch.cat([e(i[:, :2]), e(i[:, 1:])], 1),
    "without padding": lambda e, i: e(i[i != 0].view(len(i), -1)),
    "clipped in place": lambda e, i: e(i.clamp_(max=15)),
    "written": lambda e, i: e(written(i)),
    "rows of a parameter": lambda e, i: e.weight[i],
    "by torch.embedding": lambda e, i: torch.embedding(e.weight, i),
    "positions counted from a mask": lambda e, i: e(i) + e((i != 0).cumsum(1) * 0),
}


def by_rows(model: Reader, *ids: Tensor) -> list[Tensor]:
    """Table row · its gradient, for ids that are all different: the rows are the tokens."""
    table = model.table.weight
    (grads,) = torch.autograd.grad(model(*[i.clone() for i in ids])[:, 1].sum(), table)
    return [(grads * table.detach()).sum(1)[i] for i in ids]


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("way", WAYS)
def test_scores_return_to_their_tokens(way: str, batch: int) -> None:
    model = Reader(WAYS[way])
    ids = 1 + torch.randperm(15, generator=torch.Generator().manual_seed(batch))[: 4 * batch].reshape(batch, 4)
    kept = ids.clone()
    if "map" in way:
        ids = kept = torch.arange(4 * batch).reshape(batch, 4) + 7
        want = [by_rows(Reader(lambda e, i: e(i)), MAP[ids])[0]]
    else:
        want = by_rows(model, ids)
    torch.testing.assert_close(InputXGradient(model).attribute(ids, target=1), want[0])
    full = InputXGradient(model).attribute(ids, target=1, embedding_reduce=None)
    assert full.shape[:2] == ids.shape
    torch.testing.assert_close(full.sum(-1), want[0])
    assert torch.equal(ids, kept)


@pytest.mark.parametrize("way", [w for w in WAYS if w != "without padding"])
def test_chunks_of_any_size_are_read_alike(way: str) -> None:
    method = IntegratedGradients(Reader(WAYS[way]))
    ids = torch.tensor([[3, 5, 2, 7]])
    alone, gap = method.attribute(ids, target=1, n_steps=40, internal_batch_size=1, return_convergence_delta=True)
    together = method.attribute(ids, target=1, n_steps=40, internal_batch_size=40)
    torch.testing.assert_close(together, alone)
    assert float(gap.abs().max()) < 1e-4


@pytest.mark.parametrize("batch", [1, 3])
def test_two_inputs_in_one_look_up(batch: int) -> None:
    first, second = (1 + torch.randperm(15)[: 4 * batch]).reshape(batch, 4).split(2, 1)
    for read in (lambda e, a, b: e(torch.cat([b, a], 1)), lambda e, a, b: e(torch.stack([a, b], 1)).flatten(1, 2)):
        model = Reader(read)
        found = InputXGradient(model).attribute((first, second), target=1)
        for got, want in zip(found, by_rows(model, first, second), strict=True):
            torch.testing.assert_close(got, want)


def test_an_index_among_the_inputs_is_only_an_index() -> None:
    model = Reader(lambda e, ids, order: e(ids.gather(1, order)))
    ids = torch.tensor([[3, 5, 2, 7]])
    scores, order = InputXGradient(model).attribute((ids, torch.tensor([[1, 3, 0, 2]])), target=1)
    torch.testing.assert_close(scores, by_rows(Reader(lambda e, i: e(i[:, [1, 3, 0, 2]])), ids)[0])
    assert not order.any()


def test_one_look_up_per_row_is_refused_when_rows_are_repeated() -> None:
    model = Reader(lambda e, i: torch.stack([e(r) for r in i], 0))
    with pytest.raises(LayerError, match="Attribute to the embedding layer"):
        IntegratedGradients(model).attribute(torch.tensor([[3, 5, 2, 7]]), target=1)


def test_a_bag_of_padding_alone_is_zero() -> None:
    bag = nn.EmbeddingBag(8, 3, mode="max", padding_idx=0)
    model = nn.Sequential(bag, nn.Linear(3, 1))
    ids = torch.tensor([[0, 0], [4, 2]])
    found = InputXGradient(model).attribute(ids, target=0)
    assert not found[0].any()
    torch.testing.assert_close(found[1].sum(), (model(ids)[1] - model[1].bias)[0])


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("padding", [None, 2])
@pytest.mark.parametrize(("mode", "weighted"), [("sum", False), ("sum", True), ("mean", False), ("max", False)])
def test_bags_with_offsets_are_pooled_as_torch_does(mode: str, weighted: bool, padding: int | None, end: bool) -> None:
    torch.manual_seed(0)
    bag = nn.EmbeddingBag(9, 3, mode=mode, padding_idx=padding, include_last_offset=end)
    nn.init.normal_(bag.weight)
    row, starts = torch.tensor([3, 5, 1, 2, 8, 4, 2]), torch.tensor([0, 2, 2, 6])
    ends = torch.cat([starts, torch.tensor([7])]) if end else starts
    weights = row / 9 if weighted else None
    with Watch({}, 4):
        pooled = bag(row, ends, per_sample_weights=weights)
    assert pooled.shape == (4, 3)
    torch.testing.assert_close(pooled, bag(row, ends, per_sample_weights=weights))


class Flat(nn.Module):
    """Every row of ids is a bag of a flat one."""

    def __init__(self, mode: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bag, self.head = nn.EmbeddingBag(9, 3, mode=mode), nn.Linear(3, 2)

    def forward(self, ids: Tensor, flat: bool = True) -> Tensor:
        count, length = ids.shape
        bags = self.bag(ids.flatten(), torch.arange(count) * length) if flat else self.bag(ids)
        return self.head(bags).tanh()


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_a_flat_row_are_explained_like_those_of_a_matrix(mode: str) -> None:
    model, ids = Flat(mode), torch.tensor([[3, 5, 2, 7], [1, 1, 8, 4], [2, 6, 0, 3]])
    for method in (IntegratedGradients, InputXGradient):
        found = method(model).attribute(ids, target=1)
        torch.testing.assert_close(found, method(model).attribute(ids, target=1, additional_forward_args=False))
    assert found.abs().max() > 0.01


def test_one_row_of_ids_for_all_examples_is_refused_with_the_remedy() -> None:
    bag = nn.EmbeddingBag(9, 2)
    ids, offsets = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 2])
    for inputs, constants in (((ids, offsets), None), (ids, offsets)):
        with pytest.raises(LayerError, match=r"2 bag\(s\) of the 5 ids.*matrix \(B, L\)"):
            IntegratedGradients(bag).attribute(inputs, target=1, additional_forward_args=constants)


STEPS = torch.arange(5)

POSITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "expand_as": lambda ids: STEPS.expand_as(ids).clone(),
    "view_as": lambda ids: STEPS.repeat(len(ids)).view_as(ids),
    "type_as": lambda ids: STEPS.float().repeat(len(ids), 1).type_as(ids),
    "to": lambda ids: STEPS.int().repeat(len(ids), 1).to(ids),
    "new_tensor": lambda ids: ids.new_tensor([list(range(5))]),
    "broadcast": lambda ids: torch.broadcast_tensors(ids, STEPS)[1],
    "counted": lambda ids: ids.ne(0).int().cumsum(1).type_as(ids),
}


@pytest.mark.parametrize("way", POSITIONS)
def test_positions_in_the_form_of_the_ids_do_not_read_them(way: str) -> None:
    torch.manual_seed(0)
    table, places, head = nn.Embedding(16, 3), nn.Embedding(16, 3), nn.Linear(3, 2)
    ids = torch.randint(16, (2, 5))

    def rest(vectors: Tensor) -> Tensor:
        return head(torch.tanh(vectors + places(POSITIONS[way](ids))).sum(1))

    vectors = table(ids).detach().requires_grad_()
    (slope,) = torch.autograd.grad(rest(vectors)[:, 1].sum(), vectors)
    found = InputXGradient(lambda i: head(torch.tanh(table(i) + places(POSITIONS[way](i))).sum(1))).attribute(ids, 1)
    torch.testing.assert_close(found, (slope * vectors).sum(2).detach())


def test_ids_among_broadcast_tensors_are_followed() -> None:
    table, places = nn.Embedding(16, 3), nn.Embedding(5, 3)

    def score(ids: Tensor) -> Tensor:
        own, steps = torch.broadcast_tensors(ids, STEPS)
        return (table(own) * places(steps)).sum((1, 2))

    ids = torch.randint(16, (2, 5))
    want = (table(ids) * places(STEPS)).sum(2).detach()
    torch.testing.assert_close(InputXGradient(score).attribute(ids), want)


def test_a_model_that_refuses_the_baselines_is_told_from_one_that_refuses_the_ids() -> None:
    table = nn.Embedding(16, 3)

    def score(ids: Tensor) -> Tensor:
        if not bool((ids == 2).any()):
            message = "no end of text"
            raise ValueError(message)
        return torch.tanh(table(ids)).sum((1, 2))

    ids = torch.tensor([[5, 6, 2]])
    with pytest.raises(ValueError, match="no end of text") as raised:
        IntegratedGradients(score).attribute(ids)
    assert "at the baselines" in raised.value.__notes__[0]
    kept = IntegratedGradients(score).attribute(ids, torch.tensor([[1, 1, 2]]))
    assert float(kept[0, 2]) == 0.0
