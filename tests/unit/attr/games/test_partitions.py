"""Feature masks from grids, superpixels, segments and text; models that are no PyTorch code."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression, LogisticRegression

from captum import attr
from captum.attr.games.adapters import numpy_function, sklearn_estimator
from captum.attr.games.partitions import grid, sentences, superpixels, time_segments, token_groups, words
from captum.errors import InputError, MissingDependencyError, OutputError
from tests.subjects import drawn


def test_grids_cut_evenly() -> None:
    ids = grid(torch.zeros(2, 3, 5, 7), (2, 3))
    assert ids.shape == (1, 1, 5, 7)
    assert ids[0, 0, :, 0].tolist() == [0, 0, 0, 3, 3]
    assert ids[0, 0, 0].tolist() == [0, 0, 0, 1, 1, 2, 2]
    for wrong in (0, 6, (2,), (1, 8), 2.5, (2, "3")):
        with pytest.raises(InputError, match="cells"):
            grid(torch.zeros(1, 1, 5, 7), wrong)


def test_superpixels_follow_edges() -> None:
    image = torch.zeros(2, 3, 32, 32)
    image[0, :, :, 16:] = 1
    image[1, :, 16:] = 1
    for method in ("slic", "felzenszwalb"):
        ids = superpixels(image, n_segments=8, method=method)
        assert ids.shape == (2, 1, 32, 32)
        left, right = ids[0, 0, :, :16].unique().tolist(), ids[0, 0, :, 16:].unique().tolist()
        assert not set(left) & set(right)
        assert sorted({*left, *right}) == list(range(len(left) + len(right)))
    found = attr.KernelShap(lambda x: x[:, :, :, 16:].mean((1, 2, 3))).attribute(image, feature_mask=ids, seed=0)
    assert float(found[0, :, :, :16].abs().max()) < 1e-6


def test_superpixels_of_what_is_no_image() -> None:
    for wrong in (torch.zeros(3, 8, 8), torch.full((1, 3, 8, 8), torch.nan)):
        with pytest.raises(InputError, match="images"):
            superpixels(wrong)
    with pytest.raises(InputError, match="at least one segment"):
        superpixels(torch.zeros(1, 3, 8, 8), n_segments=0)


def test_superpixels_without_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "skimage.segmentation", None)
    with pytest.raises(MissingDependencyError, match="scikit-image"):
        superpixels(torch.zeros(1, 3, 8, 8))


def test_time_segments() -> None:
    assert time_segments(torch.zeros(2, 3, 5), 2).tolist() == [[[0, 0, 0, 1, 1]]]
    assert time_segments(torch.zeros(2, 2, 3), 3, "apart").tolist() == [[[0, 1, 2], [3, 4, 5]]]
    assert time_segments(torch.zeros(2, 3), 3).tolist() == [[0, 1, 2]]
    for shape, count in (((5,), 1), ((1, 1, 3, 3), 1), ((1, 1, 3), 4), ((1, 3), 0)):
        with pytest.raises(InputError, match="Expected"):
            time_segments(torch.zeros(shape), count)
    with pytest.raises(InputError, match="channels"):
        time_segments(torch.zeros(1, 2, 3), 2, "each")


def test_words_and_sentences_group_tokens() -> None:
    text = "It's a well-known fact. Isn't it? Yes… (no)"
    assert [text[a:b] for a, b in words(text)] == ["It's", "a", "well-known", "fact", "Isn't", "it", "Yes", "no"]
    assert [text[a:b] for a, b in sentences(text)] == ["It's a well-known fact.", "Isn't it?", "Yes…", "(no)"]
    assert [("one\ntwo 3.5 x.")[a:b] for a, b in sentences("one\ntwo 3.5 x.")] == ["one", "two 3.5 x."]
    assert [("1,000.5 of v2.0, x.y")[a:b] for a, b in words("1,000.5 of v2.0, x.y")] == [
        "1,000.5",
        "of",
        "v2.0",
        "x",
        "y",
    ]
    offsets = [(0, 0), (0, 2), (2, 4), (5, 6), (7, 11), (11, 17), (18, 22), (22, 23)]
    assert token_groups(offsets, words(text)).tolist() == [[8, 0, 0, 1, 2, 2, 3, 9]]


def test_numpy_functions_and_estimators() -> None:
    x = drawn(40, 4, seed=1)
    y = (x[:, 0] + 2 * x[:, 1] > 0).long()
    linear = LinearRegression().fit(x.numpy(), x.sum(1).numpy())
    found = attr.ShapleyValues(sklearn_estimator(linear)).attribute(x[:5])
    torch.testing.assert_close(found, x[:5] * torch.from_numpy(linear.coef_), rtol=1e-4, atol=1e-5)
    classes = sklearn_estimator(LogisticRegression().fit(x.numpy(), y.numpy()))
    found = attr.KernelShap(classes).attribute(x[:5], target=1)
    change = (classes(x[:5]) - classes(torch.zeros(5, 4)))[:, 1]
    torch.testing.assert_close(found.sum(1), change.to(found.dtype), rtol=1e-4, atol=1e-5)
    assert sklearn_estimator(linear, "predict")(x).shape == (40,)
    with pytest.raises(InputError, match="predict_proba"):
        sklearn_estimator(linear, "predict_proba")
    low = attr.FeatureAblation(numpy_function(lambda x: x.sum(1))).attribute(x.bfloat16())  # NumPy has no such type
    torch.testing.assert_close(low, x.bfloat16().float(), rtol=1e-5, atol=1e-5)
    with pytest.raises(OutputError, match=r"adapters\.numpy_function"):
        attr.FeatureAblation(lambda x: x.numpy().sum(1)).attribute(x)
    with pytest.raises(OutputError, match="numbers"):
        numpy_function(lambda x: np.array(["a"] * len(x)))(x)
