"""Running statistics against numpy over the stacked samples."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from captum.attr.averages.moments import (
    MSE,
    CommonStats,
    Count,
    GeneralAccumFn,
    Max,
    Mean,
    Min,
    Stat,
    StdDev,
    Sum,
    Var,
)
from captum.attr.averages.summarizer import Summarizer, SummarizerSingleTensor
from captum.errors import InputError

ORACLES = [
    (Mean(), lambda x: x.mean(0)),
    (Var(), lambda x: x.var(0)),
    (Var(order=1), lambda x: x.var(0, ddof=1)),
    (Var(order=3), lambda x: x.var(0, ddof=3)),
    (StdDev(), lambda x: x.std(0)),
    (StdDev(order=1), lambda x: x.std(0, ddof=1)),
    (MSE(), lambda x: ((x - x.mean(0)) ** 2).sum(0)),
    (Min(), lambda x: x.min(0)),
    (Max(), lambda x: x.max(0)),
    (Sum(), lambda x: x.sum(0)),
]


def summary_of(stat: Stat, samples: Tensor) -> dict[str, object]:
    summarizer = Summarizer([stat])
    for sample in samples:
        summarizer.update(sample)
    summary = summarizer.summary
    assert isinstance(summary, dict)
    return summary


@pytest.mark.parametrize(("stat", "oracle"), ORACLES, ids=lambda value: getattr(value, "name", ""))
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_statistics_equal_numpy(stat: Stat, oracle, offset: float) -> None:
    samples = torch.randn(17, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3)) + offset
    result = summary_of(stat, samples)[stat.name]
    np.testing.assert_allclose(np.asarray(result), oracle(samples.numpy()), rtol=1e-10, atol=1e-12)


def test_spread_survives_a_large_mean() -> None:
    samples = torch.tensor([1e8 + 1, 1e8 + 2, 1e8 + 3], dtype=torch.float64)
    assert summary_of(Var(), samples)["variance"] == pytest.approx(2 / 3, abs=1e-12)


@pytest.mark.parametrize(("stat", "name"), [
    (Mean(), "mean"), (Count(), "count"), (MSE(), "mse"), (Min(), "min"), (Max(), "max"), (Sum(), "sum"),
    (Var(), "variance"), (Var(order=1), "sample_variance"), (Var(order=2), "variance(2)"),
    (StdDev(), "std_dev"), (StdDev(order=1), "sample_std_dev"), (StdDev(order=2), "std_dev(2)"),
    (Var("spread", 1), "spread"), (GeneralAccumFn(torch.minimum), "generalaccumfn"), (Stat(), "stat"),
    (Stat(a=1), "stat(a=1)"),
])  # fmt: skip
def test_names(stat: Stat, name: str) -> None:
    assert stat.name == name


def test_equality_is_class_and_parameters() -> None:
    assert Var(order=1) == Var("other name", order=1)
    assert hash(Var(order=1)) == hash(Var("other name", order=1))
    assert Var(order=1) != Var(order=0)
    assert Var(order=1) != StdDev(order=1)
    assert Min() == Min() != Min(min_fn=torch.fmin)
    assert hash(Max()) == hash(Max("top"))
    assert Mean() != "mean"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_of_floating_samples(dtype: torch.dtype) -> None:
    samples = torch.tensor([[1.0, 2.0], [3.0, 5.0]], dtype=dtype)
    kept = [Mean(), MSE(), Min(), Max(), Sum()]
    for stat in kept:
        assert summary_of(stat, samples)[stat.name].dtype == dtype
    for stat in (Var(), Var(order=1), StdDev(), StdDev(order=1)):
        for count in (1, 2):  # also after a single sample
            assert summary_of(stat, samples[:count])[stat.name].dtype == torch.float64


def test_mean_in_half_precision_does_not_drift() -> None:
    samples = torch.full((3000, 1), 0.1, dtype=torch.float16)
    samples[-1] = 30.0
    result = summary_of(Mean(), samples)["mean"]
    assert result.item() == pytest.approx(float(samples.double().mean()), rel=5e-4)


def test_integers_and_booleans() -> None:
    whole = torch.tensor([[1, 4], [2, 4]])
    assert summary_of(Mean(), whole)["mean"].tolist() == [1.5, 4.0]
    assert summary_of(Mean(), whole)["mean"].dtype == torch.float64
    assert summary_of(Sum(), whole)["sum"].tolist() == [3, 8]
    flags = torch.tensor([[True, False], [True, True], [True, False]])
    assert summary_of(Sum(), flags)["sum"].tolist() == [3, 1]
    assert summary_of(Mean(), flags)["mean"].tolist() == pytest.approx([1, 1 / 3])
    assert summary_of(Max(), flags)["max"].tolist() == [True, True]
    assert summary_of(Count(), flags) == {"count": 3}


def test_too_few_samples_for_the_order_give_zero() -> None:
    sample = torch.tensor([[2.0, 3.0]])
    for stat in (Var(order=1), StdDev(order=1), Var(order=4)):
        assert summary_of(stat, sample)[stat.name].tolist() == [0.0, 0.0]


def test_alone_without_a_summarizer() -> None:
    samples = torch.tensor([[1.0], [4.0], [7.0]])
    for stat in (Mean(), Var(), StdDev(order=1), MSE(), Count(), Max()):
        assert stat.get() is None
        for sample in samples:
            stat.update(sample)
        assert stat.get() == summary_of(stat, samples)[stat.name]
        stat.init()
        assert stat.get() is None


def test_results_neither_alias_nor_follow_the_sample() -> None:
    for stat in (Mean(), Min(), Max(), Sum(), MSE()):
        sample = torch.tensor([1.0, 2.0])
        summarizer = Summarizer([stat])
        summarizer.update(sample)
        before = summarizer.summary[stat.name].clone()
        sample.fill_(99.0)
        assert torch.equal(summarizer.summary[stat.name], before)


def test_no_graph_is_kept() -> None:
    sample = torch.ones(2, requires_grad=True)
    summarizer = Summarizer([*CommonStats(), Sum(), MSE()])
    for _ in range(2):
        summarizer.update(sample * 2)
    assert not any(value.requires_grad for value in summarizer.summary.values())


class Range(Stat):
    """A user's own statistic, computed from two others."""

    def init(self) -> None:
        self.low, self.high = self._get_stat(Min()), self._get_stat(Max())

    def update(self, x: Tensor) -> None:
        self.last = self.high.get() - self.low.get()  # those it needs come first

    def get(self) -> Tensor:
        return self.last


class GeometricMean(Stat):
    """A user's own statistic that stands alone."""

    def init(self) -> None:
        self.logs, self.n = 0.0, 0

    def update(self, x: Tensor) -> None:
        self.logs, self.n = self.logs + x.log(), self.n + 1

    def get(self) -> Tensor | None:
        return torch.exp(self.logs / self.n) if self.n else None


def test_own_statistics() -> None:
    samples = torch.tensor([[1.0, 4.0], [2.0, 1.0], [4.0, 2.0]])
    summarizer = Summarizer([Range(), GeometricMean("geo"), Min()])
    for sample in samples:
        summarizer.update(sample)
    summary = summarizer.summary
    assert list(summary) == ["range", "geo", "min"]
    assert summary["range"].tolist() == [3.0, 3.0]
    assert summary["geo"].tolist() == pytest.approx([2.0, 2.0])


def test_shared_statistics_are_kept_once() -> None:
    worker = SummarizerSingleTensor([Range(), Max(), Var(), Mean()], [0, 2])
    worker.update(torch.tensor([1.0]))
    worker.update(torch.tensor([4.0]))
    assert list(worker.summary) == ["range", "variance"]
    assert worker.get(Range()).high is worker.get(Max())
    assert worker.get(Max("by any name")).get().item() == 4.0
    assert worker.get(Sum()) is None


def test_what_cannot_work_says_so() -> None:
    class Loop(Stat):
        def init(self) -> None:
            self._get_stat(Loop())

    class Empty(Stat):
        pass

    with pytest.raises(InputError, match="computed from itself"):
        SummarizerSingleTensor([Loop()], [0])
    with pytest.raises(InputError, match=r"Summarizer\(\[Range\(\)\]\)"):
        Range().init()
    with pytest.raises(NotImplementedError, match=r"Empty must define update"):
        Summarizer([Empty()]).update(1.0)
    with pytest.raises(NotImplementedError, match=r"Empty must define get"):
        Empty().get()


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))], ids=["deepcopy", "pickle"]
)
def test_copies_go_on_by_themselves(copied) -> None:
    stats = [*CommonStats(), Sum(), Count(), MSE(), Range()]
    samples = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    whole = Summarizer(stats)
    half = Summarizer(copied(stats))
    for sample in samples:
        whole.update(sample)
    for sample in samples[:5]:
        half.update(sample)
    other = copied(half)
    for sample in samples[5:]:
        other.update(sample)
    assert half.summary["count"] == 5
    assert other.summary.keys() == whole.summary.keys()
    for name, value in whole.summary.items():
        torch.testing.assert_close(torch.as_tensor(other.summary[name]), torch.as_tensor(value), rtol=0, atol=0)
    lone = copied(half._workers[0].get(Var(order=1)))
    assert torch.equal(lone.get(), half.summary["sample_variance"])
