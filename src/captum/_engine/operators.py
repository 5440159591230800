"""The operators that rules know: one canonical name for every spelling of a torch call, and what kind of map it is.

``F.relu``, ``torch.relu``, ``x.relu()``, ``x.relu_()`` and ``F.relu(x, inplace=True)`` are one operator, ``relu``.
A rule is chosen by name, else by kind.
"""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Function = Callable[..., Any]


class Kind(enum.Enum):
    """What kind of map an operator is, as far as backward rules are concerned."""

    STRUCTURAL = "every output element is one input element or a constant"
    LINEAR = "affine in all tensors together"
    BILINEAR = "affine in each of its tensors"
    ELEMENTWISE = "one output element depends on one element of one tensor"
    EXTREME = "every output element is the largest or smallest of some input elements"
    SPECIAL = "has rules of its own"
    COMPOSITE = "made of other operators"
    CONSTANT = "its values do not depend on the values of its tensors"
    STOP = "its values depend on its tensors, and no derivative passes"
    READ = "tells a Python value that depends on the values of its tensors"


@dataclass(frozen=True, slots=True)
class Operator:
    """A torch operator under its canonical name.

    Attributes:
        name: canonical name, such as ``"relu"``.
        kind: what kind of map it is.
        smooth: for element-wise operators, whether the derivative is continuous away from 0.
        decompose: for composite operators, the same map in terms of other operators.
    """

    name: str
    kind: Kind
    smooth: bool = False
    decompose: Function | None = None


@dataclass(frozen=True, slots=True)
class Spelling:
    """One way to call an operator.

    Attributes:
        operator: what it calls.
        mutates: whether it writes into its first tensor.
        reflected: whether its two operands come in reverse order, as in ``__rsub__``.
        inplace_at: position of an ``inplace`` argument, or -1.
    """

    operator: Operator
    mutates: bool = False
    reflected: bool = False
    inplace_at: int = -1


OPERATORS: dict[str, Operator] = {}
SPELLINGS: dict[Function, Spelling] = {}

#: Where torch keeps its functions; what exists differs between versions.
_SPACES: tuple[object, ...] = (
    torch,
    Tensor,
    F,
    torch.special,
    torch.linalg,
    torch.functional,
    *[getattr(torch._C, name, None) for name in ("_nn", "_VariableFunctions", "_special", "_linalg")],
)
#: Other names of an operator in torch's name spaces.
_ALIASES = {
    "absolute": "abs",
    "arccos": "acos",
    "arcsin": "asin",
    "arctan": "atan",
    "arccosh": "acosh",
    "arcsinh": "asinh",
    "arctanh": "atanh",
    "clip": "clamp",
    "concat": "cat",
    "concatenate": "cat",
    "divide": "div",
    "true_divide": "div",
    "expit": "sigmoid",
    "vector_norm": "linalg_vector_norm",
    "moveaxis": "movedim",
    "multiply": "mul",
    "negative": "neg",
    "subtract": "sub",
    "swapaxes": "transpose",
    "swapdims": "transpose",
    "special_expit": "sigmoid",
    "special_logsumexp": "logsumexp",
    "special_softmax": "softmax",
    "special_log_softmax": "log_softmax",
    "special_expm1": "expm1",
    "grid_sampler": "grid_sample",
    "grid_sampler_2d": "grid_sample",
    "grid_sampler_3d": "grid_sample",
    "special_log1p": "log1p",
    "special_gammaln": "lgamma",
    "special_psi": "digamma",
    "adjoint": "transpose",
    "trapz": "trapezoid",
    "unsafe_chunk": "chunk",
    "unsafe_split": "split",
    "unsafe_split_with_sizes": "split_with_sizes",
    "special_exp2": "exp2",
    "linalg_matmul": "matmul",
    "max_pool1d_with_indices": "max_pool1d",
    "max_pool2d_with_indices": "max_pool2d",
    "max_pool3d_with_indices": "max_pool3d",
}
_OPERATOR_METHODS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "div",
    "div": "div",
    "matmul": "matmul",
    "pow": "pow",
}


def declare(names: str | Iterable[str], kind: Kind, *, smooth: bool = False, decompose: Function | None = None) -> None:
    """Enter operators under all the spellings that torch has for their names."""
    for name in names.split() if isinstance(names, str) else names:
        operator = Operator(name, kind, smooth, decompose)
        OPERATORS[name] = operator
        for spelled in (name, *[alias for alias, meant in _ALIASES.items() if meant == name]):
            _spell(operator, spelled)


def _spell(operator: Operator, name: str) -> None:
    for space in _SPACES:
        function: object = getattr(space, name, None)
        if callable(function):
            enter(function, operator)
        inplace: object = getattr(space, name + "_", None)
        if callable(inplace):
            SPELLINGS[inplace] = Spelling(operator, mutates=True)
    dispatched: object = getattr(F, "_" + name, None)
    if callable(dispatched):  # F.max_pool2d and its kind hand over to F._max_pool2d
        enter(dispatched, operator)


def enter(function: Function, operator: Operator) -> None:
    """Make ``function`` a spelling of ``operator``."""
    SPELLINGS[function] = Spelling(operator, inplace_at=_inplace_position(function))


def _inplace_position(function: Function) -> int:
    if not inspect.isfunction(function):
        return -1
    return next((i for i, p in enumerate(inspect.signature(function).parameters) if p == "inplace"), -1)


def declare_attribute(name: str, operator: Operator) -> None:
    """Make reading a tensor attribute, such as ``x.T``, a spelling of an operator."""
    found: object = inspect.getattr_static(Tensor, name, None) or getattr(Tensor, name, None)
    getter: object = getattr(found, "__get__", None)
    if callable(getter):
        SPELLINGS[getter] = Spelling(operator)


def _declare_python_operators() -> None:
    for word, name in _OPERATOR_METHODS.items():
        for prefix in ("", "r", "i"):
            function: object = getattr(Tensor, f"__{prefix}{word}__", None)
            if callable(function):
                SPELLINGS[function] = Spelling(OPERATORS[name], mutates=prefix == "i", reflected=prefix == "r")
    for function, name in ((torch.rsub, "sub"),):
        SPELLINGS[function] = Spelling(OPERATORS[name], reflected=True)
    for dunder, name in (("__neg__", "neg"), ("__abs__", "abs"), ("__getitem__", "getitem")):
        enter(getattr(Tensor, dunder), OPERATORS[name])
    SPELLINGS[Tensor.__setitem__] = Spelling(OPERATORS["setitem"], mutates=True)


STRUCTURAL = """
    as_strided as_strided_copy atleast_1d atleast_2d atleast_3d block_diag broadcast_to broadcast_tensors cat
    channel_shuffle chunk clone column_stack complex constant_pad_nd contiguous copy cpu cuda diag diag_embed diagonal
    diagonal_scatter dsplit dstack
    double embedding expand expand_as flatten flip fliplr flipud float getitem gather half hsplit hstack imag
    bfloat16 index_copy index_fill index_put index_select masked_fill masked_scatter masked_select max_unpool1d
    max_unpool2d max_unpool3d meshgrid movedim
    narrow narrow_copy native_channel_shuffle pad permute pixel_shuffle pixel_unshuffle ravel real repeat
    repeat_interleave reshape reshape_as resolve_conj resolve_neg roll rot90 row_stack scatter select
    select_scatter setitem slice_scatter split split_with_sizes squeeze stack t take take_along_dim
    tensor_split tile to transpose tril triu type type_as unbind unflatten unfold unsqueeze view view_as view_as_complex
    view_as_real vsplit vstack
    where _pack_padded_sequence _pad_packed_sequence zero fill
"""
LINEAR = """
    add sub neg positive sum mean nansum cumsum trace avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d
    adaptive_avg_pool2d adaptive_avg_pool3d interpolate upsample upsample_nearest upsample_bilinear diff
    index_add scatter_add fold grid_sample affine_grid deg2rad rad2deg sum_to_size
"""
BILINEAR = """
    mul matmul mm bmm mv dot inner outer ger vdot addmm addbmm baddbmm addmv addr addcmul linear bilinear conv1d conv2d
    conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc einsum tensordot kron embedding_bag cross
    trapezoid linalg_cross linalg_vecdot grouped_mm _grouped_mm
"""
KINKED = """
    relu relu6 leaky_relu prelu hardtanh hardswish hardsigmoid threshold abs clamp clamp_min clamp_max softshrink
    hardshrink nan_to_num round floor ceil trunc fix sign sgn frac heaviside
"""
SMOOTH = """
    elu selu celu gelu silu mish sigmoid logsigmoid tanh softplus softsign tanhshrink
    exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal pow float_power sin cos tan asin acos atan sinh
    cosh asinh acosh atanh erf erfc erfinv lgamma digamma logit sinc i0 xlogy special_erf special_ndtr special_log_ndtr
    special_ndtri special_entr special_erfcx special_i0e
"""
EXTREME = """
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    max min amax amin maximum minimum fmax fmin
"""
SPECIAL = """
    div softmax log_softmax logsumexp layer_norm rms_norm group_norm instance_norm batch_norm dropout dropout1d
    dropout2d dropout3d alpha_dropout feature_alpha_dropout feature_dropout
"""
CONSTANT = """
    zeros_like ones_like full_like empty_like rand_like randn_like randint_like new_zeros new_ones new_full new_empty
    new_tensor requires_grad
"""
STOP = "detach argmax argmin argsort one_hot"
READS = (
    "item tolist __bool__ __float__ __int__ __index__ __complex__ numpy __array__ __contains__ equal allclose "
    "is_nonzero"
)


def _declare_all() -> None:
    table = {
        STRUCTURAL: Kind.STRUCTURAL,
        LINEAR: Kind.LINEAR,
        BILINEAR: Kind.BILINEAR,
        KINKED: Kind.ELEMENTWISE,
        EXTREME: Kind.EXTREME,
        SPECIAL: Kind.SPECIAL,
        CONSTANT: Kind.CONSTANT,
        STOP: Kind.STOP,
        READS: Kind.READ,
    }
    for names, kind in table.items():
        declare(names, kind)
    declare(SMOOTH, Kind.ELEMENTWISE, smooth=True)
    _declare_python_operators()
    for attribute in ("T", "mT", "H", "mH"):
        declare_attribute(attribute, OPERATORS["transpose"])
    declare_attribute("data", OPERATORS["detach"])
    for part in ("real", "imag"):
        declare_attribute(part, OPERATORS[part])
    for native in (torch.batch_norm, torch.instance_norm):  # their arguments come in another order
        SPELLINGS.pop(native, None)


_declare_all()
