"""Similar activations against a matrix of all similarities, and the files they are kept in."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity as cosine
from torch.utils.data import DataLoader, TensorDataset

from captum.errors import InputError, InputTypeError, LayerError
from captum.influence import SimilarityInfluence
from captum.influence.activations import AV
from captum.influence.similarity import cosine_similarity, euclidean_distance
from tests.unit.influence.parts import DATA, TEST, X, net, state


def values(layer: str, x: Tensor) -> Tensor:
    return net()[: int(layer) + 1](x).detach()


def similar(path, layers: str | list[str] = "1", data: object = DATA, **kwargs: object) -> SimilarityInfluence:
    return SimilarityInfluence(net(), layers, data, str(path), "net", **{"batch_size": 3, **kwargs})


@pytest.mark.parametrize("batch_size", [1, 3, 7])
@pytest.mark.parametrize("top_k", [1, 5, 20])
@pytest.mark.parametrize("layers", ["1", ["1"], ["0", "2"]])
def test_the_most_alike_of_all(tmp_path, layers, top_k, batch_size):
    found = similar(tmp_path, layers, batch_size=batch_size).influence(TEST[0], top_k)
    assert list(found) == list(layers)
    for layer, (places, scores) in found.items():
        whole = cosine(values(layer, TEST[0])[:, None], values(layer, X)[None], dim=2)
        best, wanted = whole.topk(min(top_k, 7))
        assert places.tolist() == wanted.tolist()
        torch.testing.assert_close(scores, best)


def test_distances(tmp_path):
    method = similar(tmp_path, similarity_metric=euclidean_distance, similarity_direction="min")
    places, scores = method.influence(TEST[0], 4)["1"]
    best, wanted = torch.cdist(values("1", TEST[0]), values("1", X)).topk(4, largest=False)
    assert places.tolist() == wanted.tolist()
    torch.testing.assert_close(scores, best)


def test_metrics_of_all_pairs():
    a, b = torch.sin(torch.arange(24.0)).reshape(2, 3, 4), torch.cos(torch.arange(60.0)).reshape(5, 3, 4)
    torch.testing.assert_close(cosine_similarity(a, b), cosine(a.flatten(1)[:, None], b.flatten(1)[None], dim=2))
    torch.testing.assert_close(euclidean_distance(a, b), (a[:, None] - b[None]).flatten(2).norm(dim=2))
    tiny = torch.tensor([[1e-30, 1e-30], [1e30, 0.0]])
    torch.testing.assert_close(cosine_similarity(tiny, tiny), torch.tensor([[1.0, 0.5**0.5], [0.5**0.5, 1.0]]))
    zero = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert cosine_similarity(zero, zero, replace_nan=-2).tolist() == [[1, -2], [-2, -2]]


def test_zero_activations_are_named(tmp_path):
    data = X.clone()
    data[[1, 5]] = 0
    model = nn.Sequential(nn.Identity())
    method = SimilarityInfluence(model, "0", data, str(tmp_path), batch_size=3)
    found = method.influence(TEST[0], 7)
    assert found["zero_acts-0"].tolist() == [1, 5]
    whole = cosine(TEST[0][:, None], data[None], dim=2)
    torch.testing.assert_close(found["0"][1], whole.sort(1, descending=True).values)


def test_activations_are_kept_until_model_or_data_change(tmp_path):
    runs: list[int] = []

    def method(data: object, model: nn.Module, load: bool = True) -> Tensor:
        hook = model[0].register_forward_hook(lambda m, a, o: runs.append(len(o)))
        like = SimilarityInfluence(model, "1", data, str(tmp_path), "net", batch_size=3)
        found = like.influence(TEST[0], 7, load_src_from_disk=load)["1"][1]
        hook.remove()
        return found

    first = method(X, net())
    assert runs == [3, 3, 1, 2]
    runs.clear()
    torch.testing.assert_close(method(X, net()), first)
    assert runs == [2]
    runs.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.testing.assert_close(method(X, net(), load=False), first)
    assert runs == [3, 3, 1, 2]
    changed = X.clone()
    changed[4] += 1
    wanted = cosine(values("1", TEST[0])[:, None], values("1", changed)[None], dim=2)
    torch.testing.assert_close(method(changed, net()), wanted.sort(1, descending=True).values)
    model = net()
    with torch.no_grad():
        model[0].bias += 1
    runs.clear()
    method(changed, model)
    assert runs == [3, 3, 1, 2]


def test_other_forms_of_data_and_inputs(tmp_path):
    wanted = similar(tmp_path / "a").influence(TEST[0], 3)["1"]
    for number, data in enumerate((X, TensorDataset(X), list(X), DataLoader(DATA, batch_size=2))):
        found = similar(tmp_path / str(number), data=data).influence((TEST[0],), 3)["1"]
        assert found[0].tolist() == wanted[0].tolist()

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = net()

        def forward(self, x: Tensor, scale: float = 1.0, shift: float = 0.0) -> Tensor:
            return self.inner(x * scale + shift)

    like = SimilarityInfluence(Scaled(), "inner.1", X, str(tmp_path), batch_size=3)
    places, _ = like.influence(TEST[0], 3, additional_forward_args=(2.0, 0.5))["inner.1"]
    whole = cosine(values("1", TEST[0] * 2 + 0.5)[:, None], values("1", X)[None], dim=2)
    assert places.tolist() == whole.topk(3).indices.tolist()


def test_nothing_is_left_behind(tmp_path):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout()).double()
    torch.manual_seed(2)
    before = state(model)
    SimilarityInfluence(model, "2", DATA, str(tmp_path), batch_size=4).influence(TEST[0])
    assert state(model) == before
    with pytest.raises(LayerError):
        SimilarityInfluence(model, ["1", "9"], DATA, str(tmp_path), batch_size=4).influence(TEST[0])
    assert state(model) == before


def test_mistakes_are_told(tmp_path):
    with pytest.raises(ValueError, match="'max' or 'min', got 'up'"):
        similar(tmp_path, similarity_direction="up")
    with pytest.raises(AssertionError, match=r"shape \(2, 3\)"):
        similar(tmp_path, similarity_metric=lambda a, b: a.sum()).influence(TEST[0])
    with pytest.raises(InputError, match="layer"):
        similar(tmp_path, [])
    with pytest.raises(InputError, match="top_k"):
        similar(tmp_path).influence(TEST[0], 0)
    with pytest.raises(LayerError, match="'7'"):
        similar(tmp_path, "7").influence(TEST[0])
    with pytest.raises(InputTypeError, match="Module"):
        SimilarityInfluence(lambda x: x, "0", DATA, str(tmp_path))
    with pytest.raises(InputError, match="shuffle=False"):
        similar(tmp_path, data=DataLoader(DATA, shuffle=True))

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair = nn.GRU(3, 2)
            self.unused = nn.Linear(1, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(x.float())[0]

    with pytest.raises(LayerError, match="one tensor"):
        SimilarityInfluence(Odd(), "pair", X, str(tmp_path)).influence(TEST[0])
    with pytest.raises(LayerError, match=r"\['unused'\]"):
        SimilarityInfluence(Odd(), "unused", X, str(tmp_path)).influence(TEST[0])


def test_files_of_activations(tmp_path):
    path, loader = str(tmp_path), DataLoader(TensorDataset(X), batch_size=3)
    assert AV.generate_dataset_activations(path, net(), "m", ["0", "2"], loader, "d") is None
    assert (tmp_path / "av" / "m" / "d" / "2" / "2.pt").is_file()
    assert [AV.exists(path, "m"), AV.exists(path, "m", "d", "0"), AV.exists(path, "m", None, "2", "2")] == [True] * 3
    assert not AV.exists(path, "n")
    assert not AV.exists(path, "m", "d", "0", "3")
    stored = AV.load(path, "m", "d", "2")
    torch.testing.assert_close(torch.cat([stored[i] for i in range(len(stored))]), net()(X).detach())
    assert len(AV.load(path, "m")) == 6
    one = AV.generate_dataset_activations(path, net(), "m", "0", loader, "d", return_activations=True)
    assert [len(one[i]) for i in range(3)] == [3, 3, 1]
    both = AV.generate_dataset_activations(path, net(), "m", ["0", "2"], loader, "d", return_activations=True)
    assert [len(b) for b in both] == [3, 3]
    with pytest.raises(RuntimeError, match="'n'"):
        AV.load(path, "n")
    with pytest.raises(ValueError, match="1 for 2"):
        AV.save(path, "m", "d", ["0", "1"], [X], "0")
    assert AV.sort_files(["/a/b10.pt", "/a/b9.pt", "/a/10.pt", "/a/9.pt"]) == [
        "/a/9.pt",
        "/a/10.pt",
        "/a/b9.pt",
        "/a/b10.pt",
    ]
