"""Composite operators written in primitive ones, so that rules of the primitive ones cover them."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.complexes import BY_PARTS, polar
from captum._engine.losses import LOSSES
from captum._engine.operators import OPERATORS, SPELLINGS, Kind, Spelling, declare
from captum.errors import InputError

Dims = int | Sequence[int] | None


def _mean_of_squares(x: Tensor, dim: Dims, keepdim: bool, correction: float) -> tuple[Tensor, Tensor]:
    dims = list(range(x.dim())) if dim is None or dim == () else [dim] if isinstance(dim, int) else list(dim)
    mean = x.mean(dims, keepdim=True)
    centred = x - mean
    count = math.prod(x.shape[d] for d in dims)
    spread = (centred * centred).sum(dims, keepdim=keepdim) / max(count - correction, 0)
    return spread, mean if keepdim else mean.sum(dims)


def _correction(unbiased: bool, correction: float | None) -> float:
    return float(unbiased) if correction is None else correction


def _read_spread(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Dims, bool, float]:
    """The forms of var and std: ``(dim, unbiased, keepdim)``, ``(unbiased)`` and ``(dim, *, correction, keepdim)``."""
    rest = list(args)
    dim: Any = kwargs.get("dim")
    if rest and not isinstance(rest[0], bool):
        dim = rest.pop(0)
    unbiased = rest.pop(0) if rest else kwargs.get("unbiased", True)
    keepdim = rest.pop(0) if rest else kwargs.get("keepdim", False)
    return dim, bool(keepdim), _correction(bool(unbiased), kwargs.get("correction"))


def var(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Mean square of what is left after the mean."""
    return _mean_of_squares(x, *_read_spread(args, kwargs))[0]


def std(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Root of the variance."""
    return torch.sqrt(var(x, *args, **kwargs))


def var_mean(x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Variance and mean."""
    return _mean_of_squares(x, *_read_spread(args, kwargs))


def std_mean(x: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Standard deviation and mean."""
    spread, mean = var_mean(x, *args, **kwargs)
    return torch.sqrt(spread), mean


def vector_norm(
    x: Tensor,
    ord: float = 2,  # noqa: A002  # torch's name
    dim: Dims = None,
    keepdim: bool = False,
    *,
    dtype: Any = None,  # torch's name
) -> Tensor:
    """(Σ |x|ᵖ)^(1/p)."""
    x = x if dtype is None else x.to(dtype)
    dims = list(range(x.dim())) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    if ord == 2:
        return torch.sqrt((x * x).sum(dims, keepdim=keepdim))
    if ord == 0:
        return (x != 0).to(x.dtype).sum(dims, keepdim=keepdim)
    size = x.abs()
    if ord == 1:
        return size.sum(dims, keepdim=keepdim)
    if math.isinf(ord):
        return size.amax(dims, keepdim=keepdim) if ord > 0 else size.amin(dims, keepdim=keepdim)
    return size.pow(ord).sum(dims, keepdim=keepdim).pow(1 / ord)


def norm(
    x: Tensor,
    p: Any = "fro",
    dim: Dims = None,
    keepdim: bool = False,
    out: None = None,  # noqa: ARG001  # torch passes it
    dtype: Any = None,
    **named: Any,
) -> Tensor:
    """Vector norms, and the Frobenius norm of matrices."""
    p = named.get("ord", p)
    dims = dim if dim is None or isinstance(dim, int) else tuple(dim)
    vector = dims is None or isinstance(dims, int) or len(dims) == 1
    if p is None or p == "fro":
        p = 2.0
    elif not isinstance(p, (int, float)) or (named and not vector):
        message = f"Expected a vector norm or the Frobenius norm on the differentiated path, got {p!r}."
        raise InputError(message)
    return vector_norm(x, float(p), dims, keepdim, dtype=dtype)


def linalg_norm(x: Tensor, ord: Any = None, dim: Dims = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:  # noqa: A002  # torch's name
    """Vector norms, and the Frobenius norm of matrices."""
    if ord not in (None, "fro") and dim is None and x.dim() == 2:
        message = (
            f"Expected a vector norm or the Frobenius norm on the differentiated path, got the matrix norm {ord!r}."
        )
        raise InputError(message)
    return norm(x, ord, dim, keepdim, dtype=dtype)


def normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None) -> Tensor:  # noqa: ARG001  # torch passes it
    """X / max(‖x‖, eps)."""
    return x / vector_norm(x, p, dim, keepdim=True).clamp_min(eps).expand_as(x)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂ / (‖x₁‖ ‖x₂‖)."""
    lengths = [vector_norm(x, 2, dim, keepdim=True).clamp_min(eps) for x in (x1, x2)]
    return ((x1 / lengths[0]) * (x2 / lengths[1])).sum(dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """‖x₁ − x₂ + eps‖."""
    return vector_norm(x1 - x2 + eps, p, -1, keepdim)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "") -> Tensor:  # noqa: ARG001  # the same map
    """‖x₁ᵢ − x₂ⱼ‖ for all rows i and j."""
    return vector_norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


def prod(x: Tensor, dim: int | None = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Products of halves, until one is left."""
    x = x if dtype is None else x.to(dtype)
    at = 0 if dim is None else dim
    x = x.reshape(-1) if dim is None else x
    while x.shape[at] > 1:
        half = x.shape[at] // 2
        rest = x.narrow(at, 2 * half, x.shape[at] - 2 * half)
        x = torch.cat([x.narrow(at, 0, half) * x.narrow(at, half, half), rest], at)
    return x if keepdim and dim is not None else x.squeeze(at)


def glu(x: Tensor, dim: int = -1) -> Tensor:
    """A σ(b)."""
    a, b = x.chunk(2, dim)
    return a * torch.sigmoid(b)


def softmin(x: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> Tensor:
    """Softmax of −x."""
    return F.softmax(-x, dim, dtype=dtype)


def addcdiv(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """X + value · top / bottom."""
    return x + value * (tensor1 / tensor2)


def logaddexp(x: Tensor, other: Tensor) -> Tensor:
    """log(eˣ + eʸ)."""
    return torch.logsumexp(torch.stack(torch.broadcast_tensors(x, other)), 0)


def multi_dot(tensors: Sequence[Tensor]) -> Tensor:
    """The product of all, from the left."""
    return functools.reduce(torch.matmul, tensors)


def _lp_pool(x: Tensor, p: float, size: Any, stride: Any, ceil_mode: bool, dims: int) -> Tensor:
    sizes = [size] * dims if isinstance(size, int) else list(size)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[dims - 1]
    powers = pool(x.pow(p), sizes, stride, 0, ceil_mode)
    return (torch.sign(powers.detach()) * F.relu(powers.abs()) * math.prod(sizes)).pow(1.0 / p)


def lp_pool1d(x: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(Σ xᵖ)^(1/p) over windows."""
    return _lp_pool(x, float(norm_type), kernel_size, stride, ceil_mode, 1)


def lp_pool2d(x: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(Σ xᵖ)^(1/p) over windows."""
    return _lp_pool(x, float(norm_type), kernel_size, stride, ceil_mode, 2)


def lp_pool3d(x: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False) -> Tensor:
    """(Σ xᵖ)^(1/p) over windows."""
    return _lp_pool(x, float(norm_type), kernel_size, stride, ceil_mode, 3)


def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """X / (k + α · mean of x² over neighbouring channels)^β."""
    squares = (x * x).flatten(2).transpose(1, 2)
    near = F.avg_pool1d(F.pad(squares, (size // 2, (size - 1) // 2)), size, stride=1)
    return x / (near.transpose(1, 2).reshape(x.shape) * alpha + k).pow(beta)


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Softmax(q kᵀ · scale + mask) v."""
    factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if enable_gqa:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = torch.matmul(query * factor, key.transpose(-2, -1))
    if is_causal:
        keep = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~keep, -torch.inf)
    if attn_mask is not None:
        hidden = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
    weights = F.dropout(torch.softmax(scores, -1), dropout_p, training=dropout_p > 0)
    return torch.matmul(weights, value)


def lerp(input: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:  # noqa: A002  # torch's name
    """Start + weight · (end − start); from the end where a number brings it nearer to that, as torch does."""
    if isinstance(weight, Tensor) or abs(weight) < 0.5:
        return input + weight * (end - input)
    return end - (end - input) * (1 - weight)


def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """The elements in the order of their sizes."""
    indices = _order(x, dim, descending, stable)
    return torch.return_types.sort((x.gather(dim, indices), indices))


def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002, ARG001  # torch's name
    """The first elements in the order of their sizes."""
    indices = _order(x, dim, largest, stable=True).narrow(dim, 0, k)
    return torch.return_types.topk((x.gather(dim, indices), indices))


def _order(x: Tensor, dim: int, descending: bool, stable: bool) -> Tensor:
    return torch.argsort(x, dim=dim, descending=descending, stable=stable)


def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The middle element, the lower one of two."""
    if dim is None:
        return kthvalue(x.reshape(-1), (x.numel() + 1) // 2, 0)[0]
    return torch.return_types.median(kthvalue(x, (x.shape[dim] + 1) // 2, dim, keepdim))


def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th element in the order of their sizes."""
    indices = _order(x, dim, descending=False, stable=True).narrow(dim, k - 1, 1)
    values = x.gather(dim, indices)
    pair = (values, indices) if keepdim else (values.squeeze(dim), indices.squeeze(dim))
    return torch.return_types.kthvalue(pair)


def cumprod(x: Tensor, dim: int, *, dtype: Any = None) -> Tensor:
    """Products of the first elements."""
    parts = (x if dtype is None else x.to(dtype)).unbind(dim)
    return torch.stack(list(itertools.accumulate(parts, torch.mul)), dim)


def hypot(x: Tensor, other: Tensor) -> Tensor:
    """√(x² + y²)."""
    return torch.sqrt(x * x + other * other)


def pdist(x: Tensor, p: float = 2.0) -> Tensor:
    """‖xᵢ − xⱼ‖ for i < j."""
    first, second = torch.triu_indices(len(x), len(x), 1, device=x.device)
    return vector_norm(x[first] - x[second], p, -1)


def rrelu(
    x: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,  # noqa: ARG001  # torch passes it
) -> Tensor:
    """Outside of training: leaky ReLU with the mean slope."""
    if training:
        message = "rrelu draws its slopes in training mode; call model.eval()."
        raise InputError(message)
    return F.leaky_relu(x, (lower + upper) / 2)


def declare_composites() -> None:
    """Enter them all."""
    table = {
        "var": var,
        "std": std,
        "var_mean": var_mean,
        "std_mean": std_mean,
        "linalg_vector_norm": vector_norm,
        "norm": norm,
        "normalize": normalize,
        "cosine_similarity": cosine_similarity,
        "pairwise_distance": pairwise_distance,
        "cdist": cdist,
        "pdist": pdist,
        "hypot": hypot,
        "median": median,
        "kthvalue": kthvalue,
        "cumprod": cumprod,
        "rrelu": rrelu,
        **LOSSES,
        "polar": polar,
        "conj": BY_PARTS["conj"],
        "prod": prod,
        "glu": glu,
        "sort": sort,
        "topk": topk,
        "softmin": softmin,
        "addcdiv": addcdiv,
        "lerp": lerp,
        "logaddexp": logaddexp,
        "linalg_multi_dot": multi_dot,
        "lp_pool1d": lp_pool1d,
        "lp_pool2d": lp_pool2d,
        "lp_pool3d": lp_pool3d,
        "local_response_norm": local_response_norm,
        "scaled_dot_product_attention": scaled_dot_product_attention,
    }
    for name, function in table.items():
        declare(name, Kind.COMPOSITE, decompose=function)
    declare("linalg_norm", Kind.COMPOSITE, decompose=linalg_norm)
    for function in (torch.linalg.norm, getattr(getattr(torch._C, "_linalg", None), "linalg_norm", torch.linalg.norm)):
        SPELLINGS[function] = Spelling(OPERATORS["linalg_norm"])
