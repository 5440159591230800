"""Language models on a server, and a server that speaks the protocol of vLLM."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from captum.attr import (
    FeatureAblation,
    LLMAttribution,
    RemoteLLMAttribution,
    RemoteLLMProvider,
    Saliency,
    TextTemplateInput,
    TextTokenInput,
    VLLMProvider,
)
from captum.errors import InputError, InputTypeError, MissingDependencyError
from tests.unit.attr.text.llm_toys import llama, log_probs, tokenizer


class Local(RemoteLLMProvider):
    """Answers from the local model, and counts."""

    def __init__(self, short: bool = False) -> None:
        self.asked: list[str] = []
        self.short = short

    def generate(self, prompt: str, **gen_args: object) -> str:
        assert gen_args["max_new_tokens"] in (2, 25)
        return f"and then {prompt.split(maxsplit=1)[0]}"

    def get_logprobs(self, input_prompt: str, target_str: str, tokenizer: Any = None) -> list[float]:
        self.asked.append(input_prompt)
        ids = tokenizer.encode(target_str, add_special_tokens=False)
        return log_probs(input_prompt, ids[: len(ids) - self.short]).tolist()


def remote(provider: RemoteLLMProvider) -> RemoteLLMAttribution:
    return RemoteLLMAttribution(FeatureAblation(RemoteLLMAttribution.placeholder_model), tokenizer(), provider)


def test_a_remote_model_is_explained_like_a_local_one():
    prompt = TextTemplateInput("{} lives in {}", ["Ann", "Oslo"], baselines=["Bob", "Rome"])
    provider = Local()
    found = remote(provider).attribute(prompt, target="and then")
    expected = LLMAttribution(FeatureAblation(llama()), tokenizer()).attribute(prompt, target="and then")
    torch.testing.assert_close(found.seq_attr, expected.seq_attr, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.token_attr, expected.token_attr, rtol=1e-4, atol=1e-4)
    assert sorted(provider.asked) == ["Ann lives in Oslo", "Ann lives in Rome", "Bob lives in Oslo"]


def test_it_speaks_for_itself_and_reads_tokens_as_text():
    provider = Local()
    found = remote(provider).attribute(TextTemplateInput("{} ran", ["Ann"]), gen_args={"max_new_tokens": 2})
    assert found.output_tokens == ["and", "then", "Ann"]
    remote(provider).attribute(TextTokenInput("Ann ran", tokenizer(), skip_tokens=[1]), target="and")
    assert "<s> Ann ran" in provider.asked


def test_answers_that_do_not_fit_are_told():
    with pytest.raises(ValueError, match="Expected 2 log-probabilities"):
        remote(Local(short=True)).attribute(TextTemplateInput("{}", ["Ann"]), target="and then")
    with pytest.raises(InputTypeError, match="perturbation method"):
        RemoteLLMAttribution(Saliency(RemoteLLMAttribution.placeholder_model), tokenizer(), Local())
    with pytest.raises(InputError, match="placeholder"):
        RemoteLLMAttribution.placeholder_model()


class Server:
    """The client of an OpenAI-compatible server, as far as it is used."""

    def __init__(self, **options: object) -> None:
        self.options = options
        self.sent: list[dict[str, Any]] = []
        self.served = ["small", "large"]
        self.answer: Any = None
        self.models = SimpleNamespace(list=lambda: SimpleNamespace(data=[SimpleNamespace(id=m) for m in self.served]))
        self.completions = SimpleNamespace(create=self.create)

    def create(self, **given: Any) -> Any:
        self.sent.append(given)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def server(monkeypatch):
    made: list[Server] = []

    def client(**options: object) -> Server:
        made.append(Server(**options))
        return made[-1]

    package = ModuleType("openai")
    package.OpenAI = client  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "openai", package)
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    provider = VLLMProvider("http://localhost:8000/v1")
    return provider, made[0]


def test_a_server_is_asked_in_its_own_words(server):
    provider, client = server
    assert client.options == {"base_url": "http://localhost:8000/v1", "api_key": "secret"}
    assert provider.model_name == "small"
    client.answer = SimpleNamespace(choices=[SimpleNamespace(text=" fine")])
    assert provider.generate("How?", max_new_tokens=7, do_sample=False, top_p=None) == " fine"
    assert client.sent == [{"model": "small", "prompt": "How?", "max_tokens": 7, "temperature": 0}]
    entries = [None, {"4": {"logprob": -0.5}}, {"5": SimpleNamespace(logprob=-0.25)}]
    client.answer = SimpleNamespace(choices=[SimpleNamespace(prompt_logprobs=entries)])
    assert provider.get_logprobs("Ann ", "and then", tokenizer()) == [-0.5, -0.25]
    assert client.sent[1]["prompt"] == "Ann and then"
    assert client.sent[1]["extra_body"] == {"prompt_logprobs": 0}


def test_what_a_server_leaves_out_is_told(server):
    provider, client = server
    client.answer = SimpleNamespace(choices=[])
    with pytest.raises(ValueError, match="without choices"):
        provider.generate("How?")
    for entries in (None, [{"4": {"logprob": -1.0}}]):
        client.answer = SimpleNamespace(choices=[SimpleNamespace(prompt_logprobs=entries)])
        with pytest.raises(ValueError, match="log-probabilities of 2"):
            provider.get_logprobs("Ann ", "and then", tokenizer())
    client.answer = SimpleNamespace(choices=[SimpleNamespace(prompt_logprobs=[None, None])])
    with pytest.raises(ValueError, match="without any"):
        provider.get_logprobs("Ann ", "and then", tokenizer())
    with pytest.raises(ValueError, match="tokenizer"):
        provider.get_logprobs("Ann ", "and then")
    with pytest.raises(ValueError, match="at least one token"):
        provider.get_logprobs("Ann ", "", tokenizer())

    class APIConnectionError(Exception):
        """As the package has it."""

    client.answer = APIConnectionError("refused")
    with pytest.raises(ConnectionError, match="did not answer"):
        provider.generate("How?")


def test_servers_that_cannot_be_used_are_told(monkeypatch):
    with pytest.raises(ValueError, match="address"):
        VLLMProvider(" ")
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(MissingDependencyError, match="pip install openai"):
        VLLMProvider("http://localhost:8000/v1")
    package = ModuleType("openai")
    package.OpenAI = lambda **_: SimpleNamespace(  # pyright: ignore[reportAttributeAccessIssue]
        models=SimpleNamespace(list=lambda: SimpleNamespace(data=[]))
    )
    monkeypatch.setitem(sys.modules, "openai", package)
    with pytest.raises(ValueError, match="no models"):
        VLLMProvider("http://localhost:8000/v1")
