"""Checkpoints: which files, in which order, and what a file of a state dict may hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum.errors import InputError, InputTypeError
from captum.influence import TracInCP
from captum.influence.checkpoints import find_checkpoints, load_checkpoint, untouched
from tests.unit.influence.parts import DATA, TEST, as_it_is, cross_entropy, net, state


def test_files_come_in_natural_order(tmp_path):
    for name in ("b10.pt", "b9.pt", "a.pt", ".hidden"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    names = [p.rpartition("/")[2] for p in find_checkpoints(str(tmp_path))]
    assert names == ["a.pt", "b9.pt", "b10.pt"]
    assert find_checkpoints(["x10", "x9", "x1"]) == ["x1", "x9", "x10"]
    assert find_checkpoints(iter([3, 1, 2])) == [3, 1, 2]


def test_no_checkpoints_are_told(tmp_path):
    for nothing in ([], str(tmp_path)):
        with pytest.raises(ValueError, match="at least one checkpoint"):
            TracInCP(net(), DATA, nothing, as_it_is)
    with pytest.raises(InputError, match="directory"):
        find_checkpoints(str(tmp_path / "nope"))
    with pytest.raises(InputTypeError, match="iterable"):
        find_checkpoints(3)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_state_dicts_with_a_learning_rate(tmp_path, prefix, wrapped):
    saved = {prefix + name: value + 1 for name, value in net().state_dict().items()}
    model = nn.DataParallel(net()) if wrapped else net()
    torch.save(saved, tmp_path / "1.pt")
    assert load_checkpoint(model, tmp_path / "1.pt") == 1.0
    torch.save({**saved, "learning_rate": 0.25}, tmp_path / "2.pt")
    assert load_checkpoint(model, tmp_path / "2.pt") == 0.25
    for (_, value), old in zip(model.state_dict().items(), net().state_dict().values(), strict=True):
        torch.testing.assert_close(value, old + 1)


def test_a_directory_is_the_default(tmp_path):
    model = net()
    for number, rate in ((1, 0.5), (2, 0.25)):
        torch.save(
            {**{n: v * number for n, v in net().state_dict().items()}, "learning_rate": rate}, tmp_path / f"{number}.pt"
        )
    before = state(model)
    found = TracInCP(model, DATA, str(tmp_path), loss_fn=cross_entropy("none"), batch_size=3).influence(TEST)
    assert state(model) == before

    def scaled(model: nn.Module, checkpoint: tuple[int, float]) -> float:
        model.load_state_dict({n: v * checkpoint[0] for n, v in net().state_dict().items()})
        return checkpoint[1]

    same = TracInCP(net(), DATA, [(1, 0.5), (2, 0.25)], scaled, loss_fn=cross_entropy("none"), batch_size=3)
    torch.testing.assert_close(found, same.influence(TEST))


def test_a_file_of_something_else_is_told(tmp_path):
    torch.save([1, 2], tmp_path / "1.pt")
    with pytest.raises(InputTypeError, match="checkpoints_load_func"):
        load_checkpoint(net(), tmp_path / "1.pt")


def change_everything(model: nn.Sequential) -> None:
    model.eval().requires_grad_(False)
    model.load_state_dict({n: v + 1 for n, v in model.state_dict().items()}, assign=True)
    model[1].running_mean = torch.ones(4)
    model[1].num_batches_tracked.add_(3)
    model[0].weight.data = torch.zeros(2, 2)
    model.zero_grad()
    torch.rand(3)
    raise KeyError


def test_a_block_that_changes_everything_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4))
    model[2].bias = model[0].bias
    model[0].weight.grad = torch.ones(4, 3)
    before = state(model)
    with pytest.raises(KeyError), untouched(model):
        change_everything(model)
    assert state(model) == before
