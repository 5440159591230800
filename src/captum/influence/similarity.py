"""Training examples whose activations are like those of others."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from captum._engine.values import describe
from captum.errors import InputError
from captum.influence.activations import AV, layer_values
from captum.influence.batches import loader_of
from captum.influence.checkpoints import untouched
from captum.influence.data_influence import DataInfluence
from captum.influence.gradients import expect_model
from captum.influence.results import BestSoFar, positive_count
from captum.log import log_usage

__all__ = ["SimilarityInfluence", "cosine_similarity", "euclidean_distance"]

#: Examples of a data set that are compared to tell whether stored activations are of the same data.
LOOKED_AT = 256
SOURCE = "src"


def euclidean_distance(test: Tensor, train: Tensor) -> Tensor:
    """Distances of all pairs.

    Args:
        test: ``(n, *)``.
        train: ``(m, *)``.

    Returns:
        ``(n, m)``.

    >>> euclidean_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0]]))
    tensor([[5.]])
    """
    return torch.cdist(test.flatten(1), train.flatten(1), compute_mode="donot_use_mm_for_euclid_dist")


def cosine_similarity(test: Tensor, train: Tensor, replace_nan: float = 0) -> Tensor:
    """Cosines of the angles of all pairs.

    Args:
        test: ``(n, *)``.
        train: ``(m, *)``.
        replace_nan: what a pair with a zero vector gets, which has no angle.

    Returns:
        ``(n, m)``, from −1 to 1.

    >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, 0.0]]), -2)
    tensor([[ 1.,  0., -2.]])
    """
    sides = [t.flatten(1) for t in (test, train)]
    sides = [t / t.abs().amax(1, keepdim=True) for t in sides]  # 0 / 0 is NaN; and squares do not underflow
    sides = [t / t.norm(dim=1, keepdim=True) for t in sides]
    cosines = (sides[0] @ sides[1].T).clamp(-1, 1)
    return torch.where(cosines.isnan(), replace_nan, cosines)


class SimilarityInfluence(DataInfluence):
    """The training examples whose activations are most like those of each example.

    Activations of the training data are stored in files, and read in later calls as long as the model's parameters and
    the data are the same: a digest of the state dict and of up to 256 examples, spread over the data, tells.

    Args:
        module: the model; after every call it is as it was before.
        layers: name of a layer, or a list of names.
        influence_src_dataset: the training data: tensors, or tuples of what the model is called with, where a last
            entry of several is the label. A DataLoader that does not shuffle is fine too.
        activation_dir: directory for the files.
        model_id: name of the model, part of their path.
        similarity_metric: ``(test (n, *), train (m, *)) -> (n, m)``; default: the cosine, 0 for zero vectors.
        similarity_direction: ``"max"`` (default) where large values mean alike, ``"min"`` for distances.
        batch_size: training examples in a batch (default 1).
        kwargs: not used.

    Raises:
        InputError: when the direction is another, or there is no layer.
        InputTypeError: when the model or the data have another type.

    Example:
        >>> import tempfile
        >>> data = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> like = SimilarityInfluence(nn.Sequential(nn.Identity()), "0", data, tempfile.mkdtemp())
        >>> like.influence(torch.tensor([[0.0, 2.0]]))["0"]
        (tensor([[1]]), tensor([[1.]]))
    """

    def __init__(
        self,
        module: nn.Module,
        layers: str | list[str],
        influence_src_dataset: Any,
        activation_dir: str,
        model_id: str = "",
        similarity_metric: Callable[[Tensor, Tensor], Tensor] = cosine_similarity,
        similarity_direction: str = "max",
        batch_size: int = 1,
        **kwargs: Any,
    ) -> None:
        expect_model(module)
        del kwargs
        self.module = module
        self.layers = [layers] if isinstance(layers, str) else list(layers)
        if not self.layers:
            message = "Expected the name of at least one layer, got none."
            raise InputError(message)
        if similarity_direction not in {"max", "min"}:
            message = f"Expected similarity_direction to be 'max' or 'min', got {similarity_direction!r}."
            raise InputError(message)
        self.influence_src_dataset = influence_src_dataset
        self.influence_src_dataloader = loader_of(influence_src_dataset, batch_size, "influence_src_dataset")
        self.activation_dir = str(activation_dir)
        self.model_id = model_id
        self.similarity_metric = similarity_metric
        self.similarity_direction = similarity_direction
        self.batch_size = batch_size

    @log_usage()
    def influence(  # pyright: ignore[reportIncompatibleMethodOverride] upstream's signatures differ
        self,
        inputs: Any,
        top_k: int = 1,
        additional_forward_args: Any = None,
        load_src_from_disk: bool = True,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """The training examples that are most like each example, by the activations of each layer.

        Args:
            inputs: tensor ``(n, *)``, or a tuple of these.
            top_k: how many training examples to return for each (default 1).
            additional_forward_args: what the model is called with after the inputs.
            load_src_from_disk: whether stored activations of the training data are used (default), or made anew.
            kwargs: not used.

        Returns:
            Layer → places in the training data ``(n, k)`` and similarities ``(n, k)``, the most alike first. Where the
            default metric met training examples whose activations are zero, ``"zero_acts-<layer>"`` has their places.

        Raises:
            InputError: when the metric does not return ``(n, m)``.
            LayerError: when a layer does not run, or returns anything but one tensor.
        """
        del kwargs
        positive_count(top_k, "top_k")
        self._store(load_src_from_disk)
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
        if additional_forward_args is not None:
            more = additional_forward_args
            args += tuple(more) if isinstance(more, tuple) else (more,)
        with untouched(self.module):
            tests = layer_values(self.module, self.layers, args)
        found: dict[str, Any] = {}
        with torch.no_grad():
            for layer, test in tests.items():
                found.update(self._nearest(layer, test, top_k))
        return found

    def _nearest(self, layer: str, test: Tensor, top_k: int) -> dict[str, Any]:
        metric: Callable[..., Any] = self.similarity_metric
        best = BestSoFar(top_k, largest=self.similarity_direction == "max")
        zeros: list[int] = []
        start = 0
        stored = AV.load(self.activation_dir, self.model_id, SOURCE, layer)
        for source in (stored[i].to(test.device) for i in range(len(stored))):
            scores: Any = metric(test, source)
            wanted = (len(test), len(source))
            if not isinstance(scores, Tensor) or tuple(scores.shape) != wanted:
                message = f"Expected similarity_metric to return the shape {wanted}, got {describe(scores)}."
                raise InputError(message)
            best.update(scores, start)
            zeros += [start + i for i, empty in enumerate((source.flatten(1) == 0).all(1).tolist()) if empty]
            start += len(source)
        found: dict[str, Any] = {layer: tuple(best.results())}
        if zeros and self.similarity_metric is cosine_similarity:
            found[f"zero_acts-{layer}"] = torch.tensor(zeros)
        return found

    def _store(self, load_from_disk: bool) -> None:
        """Make the activations of the training data where they are missing, or of another model or other data."""
        digest = self._digest()
        notes = {layer: self._note(layer) for layer in self.layers}
        stale = [
            layer
            for layer, note in notes.items()
            if not load_from_disk or not note.is_file() or note.read_text(encoding="utf-8") != digest
        ]
        if not stale:
            return
        for layer in stale:
            notes[layer].unlink(missing_ok=True)
        loader = self.influence_src_dataloader
        AV.generate_dataset_activations(
            self.activation_dir, self.module, self.model_id, stale, loader, SOURCE, load_from_disk=False
        )
        for layer in stale:
            notes[layer].write_text(digest, encoding="utf-8")

    def _note(self, layer: str) -> Path:
        return Path(self.activation_dir) / AV.AV_DIR_NAME / self.model_id / SOURCE / layer / "digest.txt"

    def _digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        training = [m.training for m in self.module.modules()]
        for part in _bytes([dict(self.module.state_dict()), training, *self._looked_at()]):
            digest.update(part)
        return digest.hexdigest()

    def _looked_at(self) -> Iterator[Any]:
        loader: DataLoader[Any] = self.influence_src_dataloader
        data: Any = loader.dataset
        yield loader.batch_size
        if isinstance(data, (Tensor, TensorDataset)):
            yield data if isinstance(data, Tensor) else data.tensors
            return
        if not hasattr(data, "__len__") or not hasattr(data, "__getitem__"):
            return
        count = len(data)
        yield count
        with torch.random.fork_rng([]):
            for place in range(0, count, max(1, -(-count // LOOKED_AT))):
                yield data[place]


def _bytes(value: Any) -> Iterator[bytes]:
    """What tells one value from another."""
    if isinstance(value, Tensor):
        yield f"{tuple(value.shape)}{value.dtype}".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    elif isinstance(value, Mapping):
        for name, entry in value.items():
            yield str(name).encode()
            yield from _bytes(entry)
    elif isinstance(value, (tuple, list)):
        yield str(len(value)).encode()
        for entry in value:
            yield from _bytes(entry)
    elif isinstance(value, (bool, int, float, str)):
        yield repr(value).encode()
    else:
        yield type(value).__name__.encode()
