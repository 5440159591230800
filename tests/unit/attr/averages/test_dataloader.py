"""A metric over a whole loader."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from captum import attr
from captum.attr.averages.dataloader import InputRole
from captum.errors import InputError, InputTypeError, MaskError, OutputError
from tests.oracles.loops import chain
from tests.subjects import drawn

NET = chain()
X = drawn(7, 3, seed=4, dtype=torch.float64)
Y = torch.tensor([0, 1, 1, 0, 1, 0, 0])


def loss(a, b=None):
    return NET(a)[:, 0] * (1 if b is None else b.sum(1))


def total(accum, output, _batch):
    return output.sum() + (0 if accum is None else accum)


@pytest.mark.parametrize("per_pass", [1, 2, 9])
@pytest.mark.parametrize("method", ["FeatureAblation", "ShapleyValues", "KernelShap", "ShapleyValueSampling"])
def test_a_sum_over_the_data_is_the_sum_of_attributions(method: str, per_pass: int) -> None:
    kind = getattr(attr, method)
    loader = DataLoader(TensorDataset(X), batch_size=3)
    over = attr.DataLoaderAttribution(kind(loss))
    found = over.attribute(loader, reduce=total, perturbations_per_pass=per_pass)
    want = attr.ShapleyValues(loss) if "Sampling" in method else kind(loss)
    assert isinstance(found, tuple)
    if "Sampling" in method:
        change = (loss(X) - loss(torch.zeros_like(X))).sum().detach()
        torch.testing.assert_close(found[0].sum(), change)
        return
    torch.testing.assert_close(found[0], want.attribute(X).sum(0, keepdim=True))


def test_default_reduce_gives_each_row_its_values() -> None:
    loader = DataLoader(TensorDataset(X, X + 1), batch_size=3)
    found = attr.DataLoaderAttribution(attr.FeatureAblation(loss)).attribute(loader)
    torch.testing.assert_close(found, attr.FeatureAblation(loss).attribute((X, X + 1)))
    matrix = attr.DataLoaderAttribution(attr.FeatureAblation(loss)).attribute(loader, return_input_shape=False)
    torch.testing.assert_close(matrix, torch.cat(found, 1))


def as_tensor(rows):
    return torch.stack([r[0] for r in rows])


def as_tuple(rows):
    return (torch.stack([r[0] for r in rows]),)


def as_dict(rows):
    return {"a": torch.stack([r[0] for r in rows])}


@pytest.mark.parametrize("collate", [None, as_tensor, as_tuple, as_dict])
def test_any_form_of_batch(collate) -> None:
    loader = DataLoader(TensorDataset(X), batch_size=4, collate_fn=collate)
    found = attr.DataLoaderAttribution(attr.FeatureAblation(loss)).attribute(loader, reduce=total)
    torch.testing.assert_close(found[0], attr.FeatureAblation(loss).attribute(X).sum(0, keepdim=True))


def test_roles_masks_baselines_and_metrics() -> None:
    """Labels reach ``reduce`` only; a metric of several elements gets a block for each."""
    seen = []

    def count(accum, output, batch):
        features, _other, labels = batch
        seen.append((tuple(features.shape), len(labels)))
        correct = ((output > 0).long() == labels).sum()
        return torch.stack([correct, torch.tensor(len(labels))]) + (0 if accum is None else accum)

    loader = DataLoader(TensorDataset(X, X + 1, Y), batch_size=3)
    over = attr.DataLoaderAttribution(attr.FeatureAblation(loss))
    roles = (InputRole.need_attr, InputRole.need_forward, InputRole.no_forward)
    found = over.attribute(
        loader, roles, 0.5, torch.tensor([[0, 1, 1]]), count, lambda c: c[0] / c[1] * torch.tensor([1.0, 2.0])
    )
    assert seen[:3] == [((3, 3), 3), ((3, 3), 3), ((1, 3), 1)]

    def accuracy(x):
        return float(((loss(x, X + 1) > 0).long() == Y).float().mean())

    for block, factor in enumerate((1.0, 2.0)):
        for places in ([0], [1, 2]):
            changed = X.clone()
            changed[:, places] = 0.5
            want = (accuracy(X) - accuracy(changed)) * factor
            assert found[0][block, places].tolist() == pytest.approx([want] * len(places), abs=1e-6)


def test_permutation_stays_within_batches() -> None:
    loader = DataLoader(TensorDataset(torch.arange(8.0)[:, None]), batch_size=4)
    over = attr.DataLoaderAttribution(attr.FeaturePermutation(lambda x: x[:, 0]))
    found = torch.arange(8.0) - over.attribute(loader, seed=0)[0][:, 0]
    assert found[:4].sort().values.tolist() == [0, 1, 2, 3]
    assert found.tolist() != list(range(8))


def test_the_progress_bar_counts_batches(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    loader = DataLoader(TensorDataset(X), batch_size=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm tells when notebook widgets are missing
        attr.DataLoaderAttribution(attr.FeatureAblation(loss)).attribute(
            loader, show_progress=True, perturbations_per_pass=2
        )
    assert "100%" in capsys.readouterr().err


def test_what_does_not_fit() -> None:
    loader = DataLoader(TensorDataset(X, Y), batch_size=3)
    over = attr.DataLoaderAttribution(attr.FeatureAblation(loss))
    with pytest.raises(InputError, match="attr_method"):
        attr.DataLoaderAttribution(attr.Saliency(loss))
    for roles in ((0,), (1, 2), (0, 5)):
        with pytest.raises(InputError, match="input_roles"):
            over.attribute(loader, roles)
    with pytest.raises(OutputError, match="to_metric"):
        over.attribute(loader, (0, 2), reduce=total, to_metric=float)
    with pytest.raises(MaskError):
        over.attribute(loader, (0, 2), feature_mask=torch.zeros(3, 3, dtype=torch.long))
    with pytest.raises(InputError, match="at least one batch"):
        over.attribute([])
    with pytest.raises(InputTypeError, match="batches"):
        over.attribute(["text"])
    with pytest.raises(InputError, match="perturbations_per_pass"):
        over.attribute(loader, (0, 2), perturbations_per_pass=0)
    with pytest.raises(NotImplementedError):
        over.attribute_future()
