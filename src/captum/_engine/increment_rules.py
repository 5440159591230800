"""What operators make of increments: one short rule for each kind of local operator.

A rule gets an :class:`IncrementCall` and returns an :class:`Increment`, an ordinary tensor for all rows, or None: then
the operator is given the whole maps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum._engine.boxes import Reach, Span, Window
from captum._engine.calls import tensors_in
from captum._engine.convolutions import Convolution, Norm
from captum._engine.folding import Diverged
from captum._engine.increment_calls import IncrementCall, changed
from captum._engine.increments import Increment, Unchanged, pixels_last
from captum._engine.operators import OPERATORS, Kind

Rule = Callable[[IncrementCall], Any]


def _pair(value: Any) -> tuple[int, int]:
    parts = [int(v) for v in value] if isinstance(value, (list, tuple)) else [int(value)]
    return parts[0], parts[-1]


def _windows(kernel: Any, stride: Any, padding: Any, dilation: Any, partial: bool = False) -> tuple[Window, Window]:
    """The windows of a convolution or a pool along height and width."""
    y, x = (
        _window(*parts, partial)
        for parts in zip(
            _pair(kernel),
            _pair(stride),
            (padding,) * 2 if isinstance(padding, str) else _pair(padding),
            _pair(dilation),
            strict=True,
        )
    )
    return y, x


def _window(kernel: int, stride: int, padding: int | str, dilation: int, partial: bool) -> Window:
    if isinstance(padding, int):
        return Window(kernel, stride, padding, padding, dilation, partial)
    total = dilation * (kernel - 1) if padding == "same" else 0
    return Window(kernel, stride, total // 2, total - total // 2, dilation, partial)


def _slide(
    call: IncrementCall, windows: tuple[Window, Window], pad: float, compute: Callable[[Tensor], Tensor]
) -> Increment | None:
    """A window that slides over the map: ``compute`` gets what the boxes of the result need, padded."""
    map_ = call.increments[0]
    y, x = map_.y.seen(windows[0]), map_.x.seen(windows[1])
    if not call.fits(y, x):
        return None
    region = map_.filled(windows[0].needs(y), windows[1].needs(x), pad)
    values = pixels_last(compute(region.permute(0, 3, 1, 2)))
    return Increment(call.base(), values, y, x, map_.example)


def _convolve(call: IncrementCall) -> Increment | None:
    weight, bias = call.get(1, "weight"), call.get(2, "bias")
    if call.first is None or not isinstance(weight, Tensor):
        return None
    stride, dilation, groups = call.get(3, "stride", 1), call.get(5, "dilation", 1), call.get(6, "groups", 1)
    windows = _windows(weight.shape[2:], stride, call.get(4, "padding", 0), dilation)
    known = _prepared(call, weight, bias)
    used, added = (weight, bias) if known is None else known.parameters()
    out = _slide(call, windows, 0.0, lambda r: F.conv2d(r, used, added, stride, 0, dilation, groups))
    if out is not None and known is not None and known.folds:
        out.norm = known.norm
    return out


def _prepared(call: IncrementCall, weight: Tensor, bias: Tensor | None) -> Convolution | None:
    """What is known about a convolution, when it runs as it did when that was learned."""
    known = call.convolutions.get(id(weight))
    if known is None or known.bias is not bias or torch.is_autocast_enabled("cpu"):
        return None
    if not known.current or call.increments[0].values.dtype != torch.float32:
        raise Diverged
    return known


def _max_pool(call: IncrementCall) -> Increment | None:
    with_indices = "indices" in getattr(call.function, "__name__", "") or call.get(6, "return_indices", False)
    if call.first is None or with_indices:
        return None
    kernel = call.get(1, "kernel_size")
    stride, dilation = call.get(2, "stride") or kernel, call.get(4, "dilation", 1)
    windows = _windows(kernel, stride, call.get(3, "padding", 0), dilation, bool(call.get(5, "ceil_mode", False)))
    return _slide(call, windows, -torch.inf, lambda r: F.max_pool2d(r, kernel, stride, 0, dilation))


def _average_pool(call: IncrementCall) -> Increment | None:
    kernel, padding = call.get(1, "kernel_size"), call.get(3, "padding", 0)
    stride, divisor = call.get(2, "stride") or kernel, call.get(6, "divisor_override")
    uneven = _pair(padding) != (0, 0) and not call.get(5, "count_include_pad", True) and divisor is None
    if call.first is None or uneven or call.get(4, "ceil_mode", False):
        return None
    windows = _windows(kernel, stride, padding, 1)
    return _slide(call, windows, 0.0, lambda r: F.avg_pool2d(r, kernel, stride, 0, False, True, divisor))


def _adaptive_average(call: IncrementCall) -> Any:
    map_, wanted = call.first, call.get(1, "output_size")
    if map_ is None or wanted is None:
        return None
    sizes = [
        have if want is None else int(want)
        for have, want in zip(
            map_.shape[2:], wanted if isinstance(wanted, (list, tuple)) else (wanted,) * 2, strict=True
        )
    ]
    if sizes == [1, 1]:
        return (map_.total() / (map_.y.size * map_.x.size)).to(map_.values.dtype)[:, :, None, None]
    if any(have % want for have, want in zip(map_.shape[2:], sizes, strict=True)):
        return None
    kernel = [have // want for have, want in zip(map_.shape[2:], sizes, strict=True)]
    return _slide(call, _windows(kernel, kernel, 0, 1), 0.0, lambda r: F.avg_pool2d(r, kernel))


def _over_pixels(call: IncrementCall) -> Any:
    """A sum or mean over all pixels."""
    map_, dims, keep = call.first, call.get(1, "dim"), bool(call.get(2, "keepdim", False))
    if map_ is None or dims is None or call.kwargs.get("dtype") is not None:
        return None
    if not isinstance(dims, (list, tuple)) or sorted(d % 4 for d in dims) != [2, 3]:
        return _along_channels(call)
    out = map_.total()
    if getattr(call.function, "__name__", "") == "mean":
        out = out / (map_.y.size * map_.x.size)
    out = out.to(map_.values.dtype)
    return out[:, :, None, None] if keep else out


def _along_channels(call: IncrementCall) -> Increment | None:
    """An operator that works on the channels of each pixel."""
    map_, dim = call.first, call.get(1, "dim")
    alone = dim[0] if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
    if map_ is None or type(alone) is not int or alone not in (1, -3):
        return None
    return _at_boxes(call, map_, map_.box())


def _at_boxes(call: IncrementCall, map_: Increment, *boxes: Tensor) -> Increment | None:
    """The call, for the boxes alone."""
    waiting = list(boxes)
    out = call.run(lambda v: waiting.pop(0) if isinstance(v, Increment) else v)
    return _like(call.base(), out, map_)


def _like(base: Unchanged, out: Any, map_: Increment) -> Increment | None:
    """A result of the size of the boxes."""
    if not isinstance(out, Tensor) or out.dim() != 4:
        return None
    if (len(out), *out.shape[2:]) != (len(map_.values), map_.y.length, map_.x.length):
        return None
    return Increment(base, pixels_last(out), map_.y, map_.x, map_.example)


def _pointwise(call: IncrementCall) -> Increment | None:
    """An operator that looks at one pixel of each map at a time."""
    maps = call.increments
    first = maps[0]
    if any(len(m.values) != len(first.values) or m.shape[2:] != first.shape[2:] for m in maps):
        return None
    if len(maps) == 1 and not tensors_in((call.args, call.kwargs), []):
        return _at_boxes(call, first, first.box())
    y, x = first.y, first.x
    for other in maps[1:]:
        y, x = y.joined(other.y), x.joined(other.x)
    if not call.fits(y, x):
        return None
    parts: list[Tensor] = []

    def at_box(value: Any) -> Any:
        if isinstance(value, Increment):
            return value.filled(y.reach, x.reach).permute(0, 3, 1, 2)
        part = _constant(value, y, x) if isinstance(value, Tensor) else value
        if part is None:
            parts.append(value)
        return part

    arguments = changed((call.args, call.kwargs), at_box)
    if parts:
        return None
    frame = Increment(first.base, first.values, y, x, first.example)
    return _like(call.base(), call.function(*arguments[0], **arguments[1]), frame)


def _constant(value: Tensor, y: Span, x: Span) -> Tensor | None:
    """The part of a constant map at the boxes; None when it has a row for each row of the pack."""
    if value.dim() == 0 or (value.dim() == 1 and len(value) == 1):
        return value
    shape = (1,) * (4 - value.dim()) + tuple(value.shape)
    if value.dim() > 4 or shape[0] != 1:
        return None
    whole = value.reshape(shape)
    if shape[2] == shape[3] == 1:
        return whole
    whole = whole.expand(1, shape[1], y.size, x.size)[0].permute(1, 2, 0)
    rows, columns = (torch.from_numpy(s.reach.places()).to(value.device) for s in (y, x))
    return whole[rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _batch_norm(call: IncrementCall) -> Increment | None:
    map_ = call.first
    if map_ is not None and map_.norm is not None:
        names = {"running_mean": 1, "running_var": 2, "weight": 3, "bias": 4, "training": 5, "eps": 7}
        given = {name: call.get(place, name) for name, place in names.items()}
        if not map_.norm.same(Norm.of({k: v for k, v in given.items() if v is not None})):
            raise Diverged
        return Increment(call.base(), map_.values, map_.y, map_.x, map_.example)
    if call.first is None or call.get(5, "training", False) or call.get(1, "running_mean") is None:
        return None
    return _at_boxes(call, call.first, call.first.box())


def _per_channel(call: IncrementCall) -> Increment | None:
    return None if call.first is None else _at_boxes(call, call.first, call.first.box())


def _dropout(call: IncrementCall) -> Increment | None:
    return None if call.get(2, "training", call.kwargs.get("train", True)) else call.first


def _convert(call: IncrementCall) -> Increment | None:
    """Another dtype, or the same tensor."""
    map_ = call.first
    if map_ is None:
        return None
    box = map_.box()
    out = call.run(lambda v: box if v is map_ else v)
    if out is box:
        return map_
    same_place = isinstance(out, Tensor) and out.device == box.device
    return _like(call.base(), out, map_) if same_place else None


def _contiguous(call: IncrementCall) -> Increment | None:
    return call.first


def _clone(call: IncrementCall) -> Increment | None:
    map_ = call.first
    return None if map_ is None else Increment(map_.base, map_.values, map_.y, map_.x, map_.example)


def _concatenate(call: IncrementCall) -> Increment | None:
    parts, dim = call.get(0, "tensors"), call.get(1, "dim", 0)
    maps = [p for p in parts if isinstance(p, Increment)]
    if dim not in (1, -3) or len(maps) < len(parts) or any(m.shape[2:] != maps[0].shape[2:] for m in maps):
        return None
    y, x = maps[0].y, maps[0].x
    for other in maps[1:]:
        y, x = y.joined(other.y), x.joined(other.x)
    if not call.fits(y, x):
        return None
    values = torch.cat([m.filled(y.reach, x.reach) for m in maps], 3)
    return Increment(call.base(), values, y, x, maps[0].example)


def _channels(call: IncrementCall) -> Any:
    """Some of the channels, or several such parts."""
    map_ = call.first
    if map_ is None:
        return None
    if getattr(call.function, "__name__", "") == "__getitem__":
        key = call.args[1]
        if not isinstance(key, tuple) or len(key) < 2 or any(k != slice(None) for k in (key[0], *key[2:])):
            return None
        if len(key) > 4 or not isinstance(key[1], slice):
            return None
    elif call.get(2, "dim", 0) not in (1, -3):
        return None
    out = call.run(lambda v: map_.box() if v is map_ else v)
    map_.shared = True
    if isinstance(out, Tensor):
        return _view(_like(call.base(), out, map_))
    return tuple(_view(_like(call.base(i), part, map_)) for i, part in enumerate(out))


def _view(map_: Increment | None) -> Increment | None:
    if map_ is not None:
        map_.shared = True
    return map_


def _pad(call: IncrementCall) -> Increment | None:
    """Constant padding of height and width."""
    map_, pads, mode = call.first, list(call.get(1, "pad")), call.get(2, "mode", "constant")
    if map_ is None or mode != "constant" or min(pads) < 0 or any(pads[4:]):
        return None
    left, right, top, bottom = (pads + [0] * 4)[:4]
    y, x = map_.y.padded(top, bottom), map_.x.padded(left, right)
    # where a box was moved inside the map, it may now lie partly in the padding
    values = map_.filled(
        Reach(y.start - top, y.length), Reach(x.start - left, x.length), float(call.get(3, "value") or 0)
    )
    return Increment(call.base(), values, y, x, map_.example)


_ANY_PIXEL = "add sub mul div neg positive lerp addcmul where maximum minimum fmax fmin pow"
_RULES: Mapping[str, Rule] = {
    "conv2d": _convolve,
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "adaptive_avg_pool2d": _adaptive_average,
    "mean": _over_pixels,
    "sum": _over_pixels,
    "amax": _along_channels,
    "amin": _along_channels,
    "softmax": _along_channels,
    "log_softmax": _along_channels,
    "batch_norm": _batch_norm,
    "prelu": _per_channel,
    "cat": _concatenate,
    "chunk": _channels,
    "split": _channels,
    "getitem": _channels,
    "contiguous": _contiguous,
    "clone": _clone,
    "detach": _contiguous,
    "pad": _pad,
    **dict.fromkeys("dropout dropout2d feature_dropout alpha_dropout feature_alpha_dropout".split(), _dropout),  # noqa: SIM905
    **dict.fromkeys("to float double half bfloat16 type".split(), _convert),  # noqa: SIM905
    **dict.fromkeys(_ANY_PIXEL.split(), _pointwise),
}


def rule_for(name: str) -> Rule | None:
    """The rule for an operator; None when it needs whole maps."""
    if name in _RULES:
        return _RULES[name]
    operator = OPERATORS.get(name)
    return _pointwise if operator is not None and operator.kind is Kind.ELEMENTWISE else None
