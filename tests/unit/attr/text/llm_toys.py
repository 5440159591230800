"""A small Llama with random weights, a tokenizer of whole words, and log-probabilities by plain loops."""

from __future__ import annotations

import functools

import tokenizers
import torch
import transformers
from torch import Tensor

TEXT = "the a cat dog sat on mat ran to park and then red blue Ann Bob lives in Oslo Rome . is tall low"
WORDS = TEXT.split()


@functools.cache
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    vocabulary = {"<pad>": 0, "<s>": 1, "<unk>": 2, **{word: i + 3 for i, word in enumerate(WORDS)}}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    words.post_processor = tokenizers.processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", unk_token="<unk>"
    )


@functools.cache
def llama() -> transformers.LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=3 + len(WORDS),
            initializer_range=0.3,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=None,
        )
        return transformers.LlamaForCausalLM(config).eval()


def log_probs(prompt: str | Tensor, target: list[int]) -> Tensor:
    """One forward pass per token of the target, one prompt at a time, nothing padded and nothing cached."""
    ids = tokenizer().encode(prompt, return_tensors="pt") if isinstance(prompt, str) else prompt
    found = []
    with torch.no_grad():
        for token in target:
            found.append(llama()(input_ids=ids).logits[0, -1].log_softmax(-1)[token])
            ids = torch.cat([ids, torch.tensor([[token]])], 1)
    return torch.stack(found)
