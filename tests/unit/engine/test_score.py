"""The score of a call: what is fixed before the first chunk."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from captum import attr

Function = Callable[[Tensor], Tensor]
Call = Callable[[nn.Sequential, Tensor, object], Tensor]

CALLS: dict[str, Call] = {
    "integrated gradients": lambda m, x, t: attr.IntegratedGradients(m).attribute(x, target=t, internal_batch_size=5),
    "layer integrated gradients": lambda m, x, t: attr.LayerIntegratedGradients(m, m[0]).attribute(
        x, target=t, internal_batch_size=5
    ),
    "influence": lambda m, x, t: attr.InternalInfluence(m, m[0]).attribute(x, target=t, internal_batch_size=5),
    "one sample": lambda m, x, t: attr.GradientShap(m).attribute(x, torch.zeros(2, 4), 1, target=t, seed=0),
}


@pytest.mark.parametrize("name", CALLS)
def test_argmax_is_fixed_at_the_inputs_although_a_chunk_holds_each_example_once(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    x = torch.randn(5, 4) * 3
    best = model(x).argmax(1)
    assert not torch.equal(best, model(x * 0.01).argmax(1))
    torch.testing.assert_close(CALLS[name](model, x, "argmax"), CALLS[name](model, x, best))


@pytest.mark.parametrize(
    ("explain", "rows"),
    [
        (lambda f, x: attr.IntegratedGradients(f).attribute(x, n_steps=4), 12),
        (lambda f, x: attr.NoiseTunnel(attr.Saliency(f)).attribute(x, nt_samples=2), 6),
        (lambda f, x: attr.NoiseTunnel(attr.IntegratedGradients(f)).attribute(x, nt_samples=2, n_steps=4), 6),
    ],
)
def test_a_model_of_a_fixed_batch_is_told_how(explain: Callable[[Function, Tensor], Tensor], rows: int) -> None:
    def fixed(x: Tensor) -> Tensor:
        return x.view(3, 4).square().sum(1)

    x = torch.rand(3, 4)
    with pytest.raises(RuntimeError, match="shape") as raised:
        explain(fixed, x)
    (note,) = raised.value.__notes__
    assert note.startswith(f"captum called the model with {rows} rows, where the inputs have 3. ")
    assert "internal_batch_size=3" in note
    found = attr.IntegratedGradients(fixed).attribute(x, n_steps=4, internal_batch_size=3)
    torch.testing.assert_close(found, x.square())
    attr.NoiseTunnel(attr.IntegratedGradients(fixed)).attribute(x, nt_samples_batch_size=1, internal_batch_size=3)


def test_errors_of_the_users_own_batch_have_no_note() -> None:
    def broken(x: Tensor) -> Tensor:
        raise ValueError

    with pytest.raises(ValueError, match=r"^$") as raised:
        attr.Saliency(broken).attribute(torch.rand(3, 4))
    assert not getattr(raised.value, "__notes__", [])


def test_constants_that_do_not_follow_the_rows_are_told() -> None:
    def scaled(x: Tensor, weights: Tensor) -> Tensor:
        return (x * weights).sum(1)

    with pytest.raises(RuntimeError, match="size of tensor") as raised:
        attr.IntegratedGradients(scaled).attribute(torch.rand(2, 4), additional_forward_args=torch.rand(3, 4))
    assert "its dim 0 is" not in str(raised.value)
    assert raised.value.__notes__[-1].endswith("dim 0 is 2, the batch; it passed on as it is a tensor of shape (3, 4).")


def test_a_call_of_the_wrong_form_is_not_about_shapes() -> None:
    def scaled(x: Tensor, weights: Tensor) -> Tensor:
        return (x * weights).sum(1)

    with pytest.raises(TypeError, match="weights") as raised:
        attr.IntegratedGradients(scaled).attribute(torch.rand(2, 4))
    assert not getattr(raised.value, "__notes__", [])
