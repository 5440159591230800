"""Token ids, categories beside numbers, containers as answers, recurrent, compiled and scripted models."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum import attr
from captum.errors import CaptumWarning, InputError, LayerError, OutputError
from tests.cases import CASES, Case, keeping, pairs
from tests.models import Answering, fresh_model, model_named
from tests.subjects import Subject, drawn, ids, staged, subject

PATH_CASES = keeping("tokens", place="input")
DETERMINISTIC = keeping("tokens", place="input", random=False)


class Embedded(nn.Module):
    """``TwoEmbeddings`` called with both looked-up tensors instead of ids."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, word: Tensor, style: Tensor) -> Tensor:
        place = self.model.position(torch.arange(word.shape[1]))
        h = self.model.gate(torch.tanh(self.model.mix(word + place)) * torch.sigmoid(style))
        return self.model.head(h.mean(1))


def looked_up(whole: Subject) -> Subject:
    """The token subject with its variables already moved to the two tables' outputs."""
    model = whole.model

    def both(tokens: Tensor) -> tuple[Tensor, Tensor]:
        return model.word(tokens).detach(), model.style(tokens).detach()

    return whole.but(model=Embedded(model), inputs=both(whole.inputs), baselines=both(whole.baselines),
                     cloud=both(whole.cloud), layer="model.gate")  # fmt: skip


@pytest.mark.parametrize("case", DETERMINISTIC)
def test_two_tables_of_one_tensor(case: Case) -> None:
    """The score of a token is the sum over both looked-up vectors; the full tensor holds both side by side."""
    whole = subject("embeddings")
    word, style = case.run(looked_up(whole))
    values = case.run(whole)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values, word.sum(-1) + style.sum(-1))
    full = case.run(whole, embedding_reduce=None)
    torch.testing.assert_close(full, torch.cat([word, style], -1))


@pytest.mark.parametrize("name", ["bert", "gpt2", "embeddings"])
@pytest.mark.parametrize("case", PATH_CASES)
def test_one_value_per_token(case: Case, name: str) -> None:
    whole = subject(name)
    values = case.run(whole)
    assert values.shape == whole.inputs.shape
    full = case.run(whole, embedding_reduce=None)
    assert full.shape[:2] == whole.inputs.shape
    if case.options.get("nt_type", "smoothgrad") != "smoothgrad":
        return  # squares of sums are not sums of squares
    torch.testing.assert_close(full.sum(-1), values, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["bert", "gpt2"])
def test_tokens_agree_with_embeddings_passed_by_hand(name: str) -> None:
    """The models' own ``inputs_embeds`` argument is the oracle."""
    whole = subject(name)
    table = whole.model.get_input_embeddings()
    extra = {} if whole.arguments is None else {"attention_mask": whole.arguments}

    def forward(vectors: Tensor) -> Tensor:
        copies = len(vectors) // len(whole.inputs)
        more = {key: value.repeat(copies, 1) for key, value in extra.items()}
        return whole.model(inputs_embeds=vectors, **more).logits

    vectors, start = table(whole.inputs).detach(), table(whole.baselines).detach()
    want = attr.IntegratedGradients(forward).attribute(vectors, start, whole.target, n_steps=8)
    got = attr.IntegratedGradients(whole.model).attribute(
        whole.inputs, whole.baselines, whole.target, whole.arguments, n_steps=8, embedding_reduce=None
    )
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["embeddings", "bert", "gpt2", "tabular"])
def test_tokens_are_complete(name: str) -> None:
    """Values of tokens add up to the change of the score between the ids and the baseline ids."""
    whole = subject(name)
    values, delta = attr.IntegratedGradients(whole.model).attribute(
        whole.inputs, whole.baselines, whole.target, whole.arguments, n_steps=300, return_convergence_delta=True
    )
    many = isinstance(values, tuple)
    inputs = whole.inputs if many else (whole.inputs,)
    start = whole.baselines if many else (whole.baselines,)
    total = sum(value.flatten(1).sum(1) for value in (values if many else (values,)))
    rows = len(inputs[0])
    change = whole.score(*inputs) - whole.score(*[each.expand(rows, *each.shape[1:]) for each in start])
    torch.testing.assert_close(total, change, rtol=1e-2, atol=2e-3)
    torch.testing.assert_close(delta, total - change, rtol=1e-2, atol=1e-4)
    assert change.abs().max() > 1e-2


def test_padding_by_a_number() -> None:
    """A number as a baseline of ids is the id itself."""
    whole = subject("embeddings")
    method = attr.IntegratedGradients(whole.model)
    pad = torch.full((1, 5), 3)
    torch.testing.assert_close(method.attribute(whole.inputs, 3, 1), method.attribute(whole.inputs, pad, 1))
    zero = method.attribute(whole.inputs, None, 1)
    torch.testing.assert_close(zero, method.attribute(whole.inputs, torch.zeros(1, 5, dtype=torch.long), 1))


class Reshaped(nn.Module):
    """Ids are flattened, shifted and cut before they are looked up."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.table = model_named("embeddings").word
        self.how = how
        self.weight = drawn(4, 6, seed=3)

    def forward(self, tokens: Tensor) -> Tensor:
        if self.how == "plain":
            vectors = self.table(tokens)
        elif self.how == "flattened":
            vectors = self.table(tokens.view(-1)).view(*tokens.shape, -1)
        elif self.how == "transposed":
            vectors = self.table(tokens.t()).transpose(0, 1)
        elif self.how == "sliced":
            vectors = torch.cat([self.table(tokens[:, :2]), self.table(tokens[:, 2:])], 1)
        elif self.how == "cast":
            vectors = self.table(tokens.to(torch.int32))
        elif self.how == "one by one":
            vectors = torch.stack([self.table(tokens[:, k]) for k in range(tokens.shape[1])], 1)
        else:
            vectors = nn.functional.embedding(input=tokens, weight=self.table.weight)
        return (torch.tanh(vectors) * self.weight).sum((1, 2))


@pytest.mark.parametrize("how", ["flattened", "sliced", "cast", "one by one", "functional", "transposed"])
@pytest.mark.parametrize("name", ["Saliency", "IntegratedGradients"])
def test_the_way_to_the_table_does_not_matter(name: str, how: str) -> None:
    tokens = ids(3, 4, high=11)
    kind = getattr(attr, name)
    want = kind(Reshaped("plain")).attribute(tokens)
    torch.testing.assert_close(kind(Reshaped(how)).attribute(tokens), want)


def test_a_bag_of_embeddings() -> None:
    bag = nn.EmbeddingBag(11, 6, mode="mean")
    tokens = ids(3, 4, high=11)
    values = attr.InputXGradient(lambda t: bag(t).sum(1)).attribute(tokens)
    with torch.no_grad():
        torch.testing.assert_close(values, nn.functional.embedding(tokens, bag.weight).sum(-1) / 4)


@pytest.mark.parametrize("case", DETERMINISTIC)
def test_categories_beside_numbers(case: Case) -> None:
    """One value per number and one per category, each column from its own table."""
    whole = subject("tabular")
    numbers, categories = case.run(whole)
    model = whole.model

    def forward(x: Tensor, colour: Tensor, size: Tensor) -> Tensor:
        return model.head(torch.tanh(model.hidden(torch.cat([x, colour, size], -1))))

    def split(pair: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
        x, c = pair
        return x, model.colour(c[:, 0]).detach(), model.size(c[:, 1]).detach()

    class Forward(nn.Module):  # some methods want a module
        def forward(self, x: Tensor, colour: Tensor, size: Tensor) -> Tensor:
            return forward(x, colour, size)

    cloud = (whole.cloud[0], whole.cloud[1]) if case.baselines == "cloud" else None
    by_hand = staged(nn.Identity(), split(whole.inputs), 1).but(
        model=Forward(), baselines=split(whole.baselines), cloud=None if cloud is None else split(cloud)
    )
    want = case.run(by_hand)
    torch.testing.assert_close(numbers, want[0])
    torch.testing.assert_close(categories, torch.stack([want[1].sum(-1), want[2].sum(-1)], 1))


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "IntegratedGradients"])
def test_what_is_not_used_gets_zeros_and_one_note(name: str) -> None:
    x, y = drawn(2, 3), drawn(2, 4)
    kind = getattr(attr, name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        used, unused = kind(lambda a, b: a.square().sum(1)).attribute((x, y), **_steps(name))
    assert [warning.category for warning in caught] == [CaptumWarning]
    assert torch.equal(unused, torch.zeros_like(y))
    torch.testing.assert_close(used, kind(lambda a: a.square().sum(1)).attribute(x, **_steps(name)))


def _steps(name: str) -> dict[str, int]:
    return {"internal_batch_size": 1} if name == "IntegratedGradients" else {}


def test_integers_that_are_pixels() -> None:
    """Integers that no table reads are numbers."""
    weight = drawn(3)
    pixels = torch.tensor([[0, 128, 255]], dtype=torch.uint8)
    values = attr.InputXGradient(lambda x: (x * weight).sum(1)).attribute(pixels)
    torch.testing.assert_close(values, pixels * weight)


@pytest.mark.parametrize("form", ["tuple", "list", "dict", "only", "dataclass", "model output"])
@pytest.mark.parametrize("case", keeping("structure"))
def test_any_container_may_be_the_answer(case: Case, form: str) -> None:
    whole = subject(case.home)
    want = case.run(whole, **case.quick())
    answering = Answering(whole.model, form)
    torch.testing.assert_close(case.run(whole, model=answering, **case.quick()), want)


def test_an_answer_with_two_tensors_is_asked_back() -> None:
    whole = subject("mlp")
    answering = Answering(whole.model, "two")
    with pytest.raises(OutputError, match=r"scores.*others"):
        attr.Saliency(answering).attribute(whole.inputs, 1)
    chosen = attr.Saliency(answering).attribute(whole.inputs, lambda out: out["scores"][:, 1])
    torch.testing.assert_close(chosen, attr.Saliency(whole.model).attribute(whole.inputs, 1))


@pytest.mark.parametrize(("case", "name"), pairs("structure", "mlp", "cnn", "embeddings"))
def test_a_compiled_model_gives_the_same(case: Case, name: str) -> None:
    """Hooks and rules reach into the model as written, compiled or not."""
    whole = subject(name)
    want = case.run(whole, **case.quick())
    compiled = torch.compile(whole.model, backend="eager")
    torch.testing.assert_close(case.run(whole, model=compiled, **case.quick()), want)
    with torch.no_grad():
        inputs = whole.inputs
        compiled(inputs)  # compiled for real, then explained
    torch.testing.assert_close(case.run(whole, model=compiled, **case.quick()), want)
    torch._dynamo.reset()


@pytest.mark.parametrize(("case", "name"), pairs("structure", "mlp"))
@pytest.mark.parametrize("whole_model", [True, False])
def test_a_model_compiled_in_place_gives_the_same(case: Case, name: str, whole_model: bool) -> None:
    """Also when no wrapper tells so: ``module.compile()`` on the model, or on parts of it."""
    whole = subject(name)
    want = case.run(whole, **case.quick())
    parts = [whole.model] if whole_model else list(whole.model.children())
    try:
        for part in parts:
            part.compile(backend="eager")
        with torch.no_grad():
            whole.model(whole.inputs)
        torch.testing.assert_close(case.run(whole, **case.quick()), want)
    finally:
        for part in parts:
            part._compiled_call_impl = None
        torch._dynamo.reset()


@pytest.mark.parametrize("name", ["Saliency", "InputXGradient", "IntegratedGradients", "GradientShap"])
@pytest.mark.parametrize("how", ["script", "trace"])
def test_plain_gradients_run_through_scripted_models(name: str, how: str) -> None:
    whole = subject("mlp")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.trace(whole.model, whole.inputs) if how == "trace" else torch.jit.script(_Plain())
        model = whole.model if how == "trace" else _Plain()
        case = CASES[name]
        torch.testing.assert_close(case.run(whole, model=scripted), case.run(whole, model=model))


class _Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(drawn(4, 3, seed=8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x @ self.weight)


@pytest.mark.parametrize("case", [*keeping("structure", place="layer"), *keeping("structure", place="neuron")])
def test_layers_inside_a_scripted_model_are_refused(case: Case) -> None:
    """Hooks would be blind there: an error, never a wrong number."""
    whole = subject(case.home)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(whole.model, whole.inputs)
    with pytest.raises(InputError, match=r"[Ss]cript|[Tt]race|jit"):
        case.run(whole.but(model=traced))


def test_a_scripted_layer_is_refused() -> None:
    """It takes no hooks."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = torch.jit.script(nn.Linear(3, 2))
    with pytest.raises(LayerError, match="scripted"):
        attr.LayerActivation(nn.Sequential(layer), layer).attribute(drawn(2, 3))


def test_token_ids_into_a_scripted_model_are_refused() -> None:
    """Its look-ups cannot be seen, so there is no variable to move to."""
    model = fresh_model("embeddings")
    tokens = ids(3, 5, high=11)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, tokens)
    with pytest.raises(InputError):
        attr.Saliency(traced).attribute(tokens, 1)


def test_recurrent_layers_give_a_tuple_of_values() -> None:
    """An LSTM gives its steps and its last states; each gets values, and completeness is over those that are used."""
    whole = subject("lstm")
    values = attr.LayerActivation(whole.model, whole.model.lstm).attribute(whole.inputs)
    with torch.no_grad():
        steps, (h, c) = whole.model.lstm(whole.model.project(whole.inputs))
    flat = [values[0], *(values[1] if isinstance(values[1], tuple) else values[1:])]
    torch.testing.assert_close(flat, [steps, h, c])


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(1, 6), st.integers(1, 9))
def test_any_shape_and_any_chunk(rows: int, shape: list[int], n: int, size: int) -> None:
    """IG of ``sum w x^2`` is ``w (x^2 - x0^2)`` whatever the shape, and however it is cut."""
    x, start, weight = drawn(rows, *shape, seed=1), drawn(1, *shape, seed=2), drawn(*shape, seed=3)
    values, delta = attr.IntegratedGradients(lambda v: (v.square() * weight).flatten(1).sum(1)).attribute(
        x, start, n_steps=n, internal_batch_size=size, return_convergence_delta=True
    )
    torch.testing.assert_close(values, weight * (x**2 - start**2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(delta, torch.zeros(rows), rtol=0, atol=1e-4)
