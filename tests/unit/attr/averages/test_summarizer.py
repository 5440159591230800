"""Summaries: forms, errors and classes."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import torch

from captum.attr.averages.moments import MSE, CommonStats, Count, Max, Mean, Min, Sum, Var
from captum.attr.averages.summarizer import ClassSummarizer, Summarizer
from captum.errors import InputError, InputTypeError


def test_nothing_before_data() -> None:
    assert Summarizer(CommonStats()).summary is None
    assert ClassSummarizer(CommonStats()).summary is None
    assert ClassSummarizer(CommonStats()).class_summaries == {}


def test_no_statistics_give_an_empty_summary() -> None:
    summarizer = Summarizer([])
    summarizer.update(torch.ones(2))
    assert summarizer.summary == {}


@pytest.mark.parametrize("numbers", [[1, 2, 6], [1.0, 2.0, 6.0], [np.float32(1), np.int64(2), np.float64(6)]])
def test_numbers_are_samples(numbers: list) -> None:
    summarizer = Summarizer([Mean(), Max(), Count()])
    for number in numbers:
        summarizer.update(number)
    assert summarizer.summary == {"mean": 3.0, "max": 6.0, "count": 3}


def test_tuples_are_summarized_apart() -> None:
    summarizer = Summarizer([Mean(), Var()])
    summarizer.update((torch.ones(2), 1.0))
    summarizer.update((torch.zeros(2), 3.0))
    first, second = summarizer.summary
    assert first["mean"].tolist() == [0.5, 0.5]
    assert (second["mean"], second["variance"]) == (2.0, 1.0)


def test_tuple_of_one_stays_a_list() -> None:
    summarizer = Summarizer([Sum()])
    summarizer.update((torch.ones(1),))
    assert summarizer.summary == [{"sum": torch.ones(1)}]


def test_order_follows_the_request_and_duplicates_collapse() -> None:
    summarizer = Summarizer([MSE(), Mean(), Count(), Mean("again")])
    summarizer.update(1.0)
    assert list(summarizer.summary) == ["mse", "mean", "count"]


def test_given_statistics_are_copied() -> None:
    mine = Mean()
    first, second = Summarizer([mine]), Summarizer([mine])
    first.update(1.0)
    second.update(5.0)
    assert (first.summary["mean"], second.summary["mean"], mine.get()) == (1.0, 5.0, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (torch.ones(2), (torch.ones(2),)),
        ((torch.ones(2),), torch.ones(2)),
        ((torch.ones(2),), (torch.ones(2), torch.ones(2))),
        ((torch.ones(2), torch.ones(3)), (torch.ones(2),)),
        (torch.ones(2), torch.ones(1)),
        ((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.ones(4))),
    ],
)
def test_a_changed_form_is_refused_and_nothing_is_updated(before, after) -> None:
    summarizer = Summarizer([Count()])
    summarizer.update(before)
    seen = copy.deepcopy(summarizer.summary)
    with pytest.raises(InputError, match="every update needs"):
        summarizer.update(after)
    assert summarizer.summary == seen


@pytest.mark.parametrize("sample", ["a", [torch.ones(1)], None, ("a",), torch.ones(1, dtype=torch.complex64)])
def test_other_samples_are_refused(sample) -> None:
    with pytest.raises(InputTypeError):
        Summarizer([Mean()]).update(sample)


@pytest.mark.parametrize("stats", [Mean(), [Mean], [1], 3])
def test_what_is_no_statistic_is_refused(stats) -> None:
    with pytest.raises(InputTypeError, match="stats must"):
        Summarizer(stats)


def test_names_that_hide_each_other_are_refused() -> None:
    with pytest.raises(InputError, match="two statistics are named 'x'"):
        Summarizer([Min("x"), Max("x")])


ROWS = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 9.0]])


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 0],
        torch.tensor([0, 1, 0]),
        np.array([0, 1, 0]),
        [torch.tensor(0), torch.tensor(1), torch.tensor([0])],
        [np.int64(0), 1, np.int8(0)],
    ],
)
def test_classes_go_by_value(labels) -> None:
    summarizer = ClassSummarizer([Mean(), Count()])
    summarizer.update(ROWS, labels)
    summarizer.update(ROWS + 1, labels)
    classes = summarizer.class_summaries
    assert list(classes) == [0, 1]
    assert all(type(key) is int for key in classes)
    assert classes[0][0]["mean"].tolist() == [3.5, 6.0]
    assert classes[1][0]["mean"].tolist() == [3.5, 4.5]
    assert classes[0][0]["count"] == 4
    assert summarizer.summary[0]["count"] == 6
    assert summarizer.summary[0]["mean"].tolist() == [3.5, 5.5]


@pytest.mark.parametrize(("label", "key"), [
    ("cat", "cat"), (["cat"], "cat"), (("cat", 1), ("cat", 1)), (torch.tensor(2), 2), (torch.tensor([2]), 2),
    (np.int64(2), 2),
    (7, 7),
])  # fmt: skip
def test_one_label_for_all_rows(label, key) -> None:
    summarizer = ClassSummarizer([Mean()])
    summarizer.update(ROWS, label)
    assert list(summarizer.class_summaries) == [key]
    assert summarizer.class_summaries[key][0]["mean"].tolist() == [3.0, 5.0]


def test_tuples_of_tensors_with_labels() -> None:
    summarizer = ClassSummarizer([Sum()])
    summarizer.update((ROWS, torch.tensor([10, 20, 30])), ["a", "b", "b"])
    classes = summarizer.class_summaries
    assert classes["b"][0]["sum"].tolist() == [8.0, 13.0]
    assert classes["b"][1]["sum"].item() == 50
    assert summarizer.summary[1]["sum"].item() == 60


def test_without_labels_it_is_a_plain_summarizer() -> None:
    summarizer = ClassSummarizer([Max()])
    summarizer.update(ROWS)
    summarizer.update(-ROWS)
    assert torch.equal(summarizer.summary["max"], ROWS)
    assert summarizer.class_summaries == {}


@pytest.mark.parametrize(
    ("x", "labels", "text"),
    [
        (ROWS, [0, 1], "1 or 3 in number"),
        (ROWS, torch.zeros(2, 2), "1 or 3 in number"),
        ((ROWS, torch.ones(2)), [0, 1, 2], "same number of rows"),
        (torch.tensor(1.0), 0, "same number of rows"),
        (2.0, 0, "must be a torch.Tensor of rows"),
        ((), 0, "an empty tuple"),
    ],
)
def test_labels_that_do_not_fit(x, labels, text: str) -> None:
    summarizer = ClassSummarizer([Mean()])
    with pytest.raises(InputError, match=text):
        summarizer.update(x, labels)
    assert summarizer.summary is None


def test_class_summarizer_copies() -> None:
    summarizer = ClassSummarizer(CommonStats())
    summarizer.update(ROWS, [0, 1, 0])
    for copied in (copy.deepcopy(summarizer), pickle.loads(pickle.dumps(summarizer))):
        copied.update(ROWS, [1, 1, 1])
        assert copied.class_summaries[1][0]["max"].tolist() == [5.0, 9.0]
    assert summarizer.class_summaries[1][0]["max"].tolist() == [3.0, 4.0]
