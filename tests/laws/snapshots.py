"""A photograph of everything a call must leave as it was."""

from __future__ import annotations

import random

import numpy as np
import torch
from torch import Tensor, nn

_HOOKS = (
    "_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs", "_forward_hooks_always_called", "_state_dict_hooks",
)  # fmt: skip


def snapshot(model: nn.Module, *tensors: Tensor, generators: bool = True) -> dict[str, object]:
    """Hooks, attributes, flags, weights, gradients, modes and streams, as plain comparable values."""
    state: dict[str, object] = {
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "function modes": torch._C._len_torch_function_stack(),
        "dispatch modes": torch._C._len_torch_dispatch_stack(),
        "default dtype": torch.get_default_dtype(),
        "cudnn": (torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "global hooks": len(torch.nn.modules.module._global_forward_hooks)
        + len(torch.nn.modules.module._global_forward_pre_hooks)
        + len(torch.nn.modules.module._global_backward_hooks),
    }
    if generators:
        state["streams"] = (torch.get_rng_state().tolist(), str(np.random.get_state()), random.getstate())  # noqa: NPY002
    for path, module in model.named_modules():
        state[f"{path}: training"] = module.training
        state[f"{path}: class"] = type(module)
        state[f"{path}: attributes"] = sorted(vars(module))
        state[f"{path}: forward"] = getattr(module.forward, "__func__", module.forward)
        for kind in _HOOKS:
            state[f"{path}: {kind}"] = list(getattr(module, kind))
    named = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    named |= {f"tensor {index}": tensor for index, tensor in enumerate(tensors)}
    for path, tensor in named.items():
        state[f"{path}: id"] = (id(tensor), tensor.data_ptr(), tensor.stride())
        state[f"{path}: version"] = tensor._version
        state[f"{path}: requires_grad"] = (tensor.requires_grad, tensor.is_leaf)
        state[f"{path}: attributes"] = sorted(vars(tensor))
        state[f"{path}: tensor hooks"] = len(tensor._backward_hooks or ())
        state[f"{path}: values"] = tensor.detach().flatten().tolist()
        state[f"{path}: grad"] = None if tensor.grad is None else (id(tensor.grad), tensor.grad.flatten().tolist())
    return state


def assert_same(after: dict[str, object], before: dict[str, object]) -> None:
    """Name each entry that changed."""
    changed = [key for key in {**before, **after} if before.get(key, "absent") != after.get(key, "absent")]
    assert not changed, f"left behind: {changed}"
