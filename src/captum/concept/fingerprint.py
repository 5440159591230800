"""Fingerprints: whether what was stored belongs to this model and these examples.

They are hashes of everything that activations depend on. The fingerprint of a concept does not depend on the order of
its examples nor on the size of batches, so that loaders that shuffle find their activations again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from captum._engine.values import Leaves

__all__ = ["ExampleFingerprint", "combined", "model_fingerprint", "settings_of"]


def model_fingerprint(model: nn.Module) -> str:
    """Hash of the modules' types and settings, of the mode that they are in, and of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, module in model.named_modules():
        kind = f"{type(module).__module__}.{type(module).__qualname__}"
        digest.update(f"{name}|{kind}|{module.extra_repr()}|{module.training}\n".encode())
    for tensors in (model.named_parameters(), model.named_buffers()):
        for name, tensor in tensors:
            digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}\n".encode())
            digest.update(_rows(tensor.detach().reshape(1, -1))[0])
    return digest.hexdigest()


class ExampleFingerprint:
    """Hash of the examples of a concept, taken batch by batch."""

    def __init__(self) -> None:
        self._digests: list[bytes] = []

    def add(self, batch: Any) -> None:
        """Take in one batch, in the form in which the model gets it."""
        leaves = Leaves([], [])
        leaves.gather(batch, "")
        self._digests += _digests(leaves.tensors, leaves.names)

    def result(self) -> str:
        """The hash of what was taken in."""
        return hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()


def _digests(tensors: list[Tensor], names: list[str]) -> Iterator[bytes]:
    """One digest for each example of a batch; tensors without the dim of the batch belong to all of them."""
    count = next((len(t) for t in tensors if t.dim()), 0)
    heads = [f"{n}|{t.dtype}|{tuple(t.shape[1:])}".encode() for n, t in zip(names, tensors, strict=True)]
    bodies = [_rows(t) if t.dim() and len(t) == count else _rows(t.reshape(1, -1)) * count for t in tensors]
    for row in range(count):
        digest = hashlib.blake2b(digest_size=16)
        for head, body in zip(heads, bodies, strict=True):
            digest.update(head)
            digest.update(body[row])
        yield digest.digest()


def _rows(tensor: Tensor) -> list[memoryview]:
    """The bytes of each row."""
    flat = tensor.detach().resolve_conj().resolve_neg().to("cpu").reshape(len(tensor), -1).contiguous()
    return [memoryview(row) for row in flat.view(torch.uint8).numpy()]


def combined(parts: Iterable[str]) -> str:
    """One fingerprint of several."""
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def settings_of(owner: object, options: Mapping[str, Any]) -> str:
    """What tells one classifier and its plain arguments from another; objects count by their type alone."""
    plain = (bool, int, float, str, type(None))
    shown = [f"{k}={v!r}" if isinstance(v, plain) else f"{k}:{type(v).__qualname__}" for k, v in options.items()]
    home = type(owner).__module__.replace("__mp_main__", "__main__")  # its name in a spawned process
    return f"{home}.{type(owner).__qualname__}({', '.join(sorted(shown))})"
