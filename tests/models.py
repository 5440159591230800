"""Small seeded models, each with one habit that has made an attribution library wrong before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Staged(nn.Module):
    """A function between two identity layers, so that a law about functions can be put to every place.

    A layer method at ``first`` sees the input, and a neuron of ``last`` is an output.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.first = nn.Identity()
        self.body = body
        self.last = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.body(self.first(x)))


class Mlp(nn.Module):
    """Two hidden layers with biases; the plain case."""

    def __init__(
        self, features: int = 4, hidden: int = 6, classes: int = 3, activation: type[nn.Module] = nn.ReLU
    ) -> None:
        super().__init__()
        self.hidden1 = nn.Linear(features, hidden)
        self.act1 = activation()
        self.hidden2 = nn.Linear(hidden, hidden)
        self.act2 = activation()
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.act2(self.hidden2(self.act1(self.hidden1(x)))))


class Cnn(nn.Module):
    """One in-place ReLU module used twice, batch norm, max pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.relu = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3)
        self.head = nn.Linear(8 * 2 * 2, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.relu(self.norm(self.conv1(x))))
        return self.head(self.relu(self.conv2(x)).flatten(1))


class _Block(nn.Module):
    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outer)
        self.conv2 = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outer)
        self.relu = nn.ReLU(inplace=True)
        self.skip = nn.Sequential(nn.Conv2d(inner, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))
        if inner == outer and stride == 1:
            self.skip = nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y += self.skip(x)
        return self.relu(y)


class ResNet18(nn.Module):
    """The ImageNet network of He et al. 2015, in plain torch."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(_Block(64, 64, 1), _Block(64, 64, 1))
        self.layer2 = nn.Sequential(_Block(64, 128, 2), _Block(128, 128, 1))
        self.layer3 = nn.Sequential(_Block(128, 256, 2), _Block(256, 256, 1))
        self.layer4 = nn.Sequential(_Block(256, 512, 2), _Block(512, 512, 1))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.avgpool(x).flatten(1))


class FunctionalResidual(nn.Module):
    """Residual blocks written with functions and methods, an in-place add and a layer norm: no activation module."""

    def __init__(self, features: int = 5, width: int = 8, classes: int = 3) -> None:
        super().__init__()
        self.inlet = nn.Linear(features, width)
        self.block1 = nn.Linear(width, width)
        self.block2 = nn.Linear(width, width)
        self.weight = nn.Parameter(torch.randn(classes, width) / width**0.5)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.tanh(self.inlet(x))
        h = h + F.relu(self.block1(h))
        z = 0.5 * self.block2(h).relu()
        z += h
        z = F.layer_norm(z, z.shape[-1:])
        return torch.einsum("bw,cw->bc", z * torch.sigmoid(z), self.weight)


class LstmClassifier(nn.Module):
    """A recurrent net over real-valued steps."""

    def __init__(self, features: int = 3, hidden: int = 5, classes: int = 3) -> None:
        super().__init__()
        self.project = nn.Linear(features, 4)
        self.lstm = nn.LSTM(4, hidden, batch_first=True)
        self.head = nn.Linear(hidden, classes)

    def forward(self, x: Tensor) -> Tensor:
        steps, _ = self.lstm(self.project(x))
        return self.head(steps[:, -1])


class TwoEmbeddings(nn.Module):
    """Token ids looked up in two tables, plus positions that the ids do not decide."""

    def __init__(self, vocabulary: int = 11, width: int = 6, classes: int = 3) -> None:
        super().__init__()
        self.word = nn.Embedding(vocabulary, width)
        self.style = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(16, width)
        self.mix = nn.Linear(width, width)
        self.gate = nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, ids: Tensor) -> Tensor:
        place = self.position(torch.arange(ids.shape[1], device=ids.device))
        h = self.gate(torch.tanh(self.mix(self.word(ids) + place)) * torch.sigmoid(self.style(ids)))
        return self.head(h.mean(1))


class Tabular(nn.Module):
    """Numbers and categories side by side, one table per category column."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.colour = nn.Embedding(5, 3)
        self.size = nn.Embedding(4, 3)
        self.hidden = nn.Linear(3 + 3 + 3, 8)
        self.head = nn.Linear(8, classes)

    def forward(self, numbers: Tensor, categories: Tensor) -> Tensor:
        parts = [numbers, self.colour(categories[:, 0]), self.size(categories[:, 1])]
        return self.head(torch.tanh(self.hidden(torch.cat(parts, -1))))


class Segmenter(nn.Module):
    """One score per class and pixel."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 5, 3, padding=1)
        self.head = nn.Conv2d(5, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.softplus(self.conv1(x)))


class StepTagger(nn.Module):
    """One score per time step and class."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.rnn = nn.GRU(2, 4, batch_first=True)
        self.head = nn.Linear(4, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0])


class TwoInputs(nn.Module):
    """Two tensors of different shapes that meet in a product, and a constant argument."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(3, 5)
        self.right = nn.Linear(2, 5)
        self.gate = nn.Identity()
        self.head = nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor, scale: Tensor | float = 1.0) -> Tensor:
        h = self.gate(torch.tanh(self.left(a)) * torch.sigmoid(self.right(b)))
        return self.head(h) * (scale[:, None] if isinstance(scale, Tensor) and scale.dim() else scale)


@dataclass
class Answer:
    """What a model may return instead of a tensor."""

    logits: Tensor
    hidden: Tensor | None = None


class Answering(nn.Module):
    """A model whose answer is wrapped in a container of the given form."""

    def __init__(self, model: nn.Module, form: str) -> None:
        super().__init__()
        self.model = model
        self.form = form

    def forward(self, *inputs: Tensor) -> object:
        logits = self.model(*inputs)
        shape = torch.tensor(logits.shape)
        if self.form == "tuple":
            return (logits,)
        if self.form == "list":
            return [logits, shape]
        if self.form == "dict":
            return {"logits": logits, "hidden": logits * 2}
        if self.form == "only":
            return {"scores": logits, "shape": shape}
        if self.form == "two":
            return {"scores": logits, "others": logits * 2}
        if self.form == "dataclass":
            return Answer(logits, logits * 2)
        from transformers.modeling_outputs import SequenceClassifierOutput

        return SequenceClassifierOutput(loss=None, logits=logits)


def seeded(build: Callable[..., nn.Module], *args: object, seed: int = 0) -> nn.Module:
    """A model in eval mode whose weights depend on ``seed`` alone, the global stream left as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build(*args)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def tiny_bert() -> nn.Module:
    """A BERT classifier of two layers with random weights."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=17, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
        max_position_embeddings=12, num_labels=3, initializer_range=0.3, pad_token_id=0,
    )  # fmt: skip
    return BertForSequenceClassification(config)


def tiny_gpt2() -> nn.Module:
    """A GPT-2 language model of two layers with random weights."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=17,
        n_positions=12,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.3,
        bos_token_id=1,
        eos_token_id=1,
    )
    return GPT2LMHeadModel(config)


def tiny_vit() -> nn.Module:
    """A vision transformer of two layers over 4 x 4 patches with random weights."""
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24, image_size=16,
        patch_size=4, num_channels=3, num_labels=4, initializer_range=0.3,
    )  # fmt: skip
    return ViTForImageClassification(config)


class Attentive(nn.Module):
    """Two blocks of attention with residual connections, over vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.mix1, self.mix2 = nn.Linear(8, 24), nn.Linear(8, 24)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for mix in (self.mix1, self.mix2):
            query, key, value = (p.unflatten(-1, (2, 4)).transpose(1, 2) for p in mix(self.norm(x)).chunk(3, -1))
            x = x + F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        return self.head(x[:, 0])


BUILDERS = {
    "mlp": lambda: Mlp(activation=nn.ReLU),
    "attention": Attentive,
    "cnn": Cnn,
    "resnet18": ResNet18,
    "residual": FunctionalResidual,
    "lstm": LstmClassifier,
    "embeddings": TwoEmbeddings,
    "tabular": Tabular,
    "segmenter": Segmenter,
    "tagger": StepTagger,
    "pair": TwoInputs,
    "bert": tiny_bert,
    "gpt2": tiny_gpt2,
    "vit": tiny_vit,
}


@cache
def model_named(name: str) -> nn.Module:
    """The shared model of that name. A test that changes it must make its own."""
    return fresh_model(name)


def fresh_model(name: str) -> nn.Module:
    """A new model of that name with the same weights as every other."""
    return seeded(BUILDERS[name])
