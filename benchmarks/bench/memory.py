"""Peak memory of one call, read from the kernel's own high-water mark."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def resident(field: str) -> int:
    """A size in bytes from the process status: ``VmRSS`` now, ``VmHWM`` at its highest."""
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    message = f"{STATUS} has no field {field}"
    raise LookupError(message)


def warm_up() -> None:
    """Load the libraries that any forward and backward pass loads, so that they are not counted."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    torch.autograd.grad(net(x).sum(), x)


def peak_of(work: Callable[[], object]) -> int:
    """Bytes by which the peak of one call exceeds what the process held before it."""
    warm_up()
    gc.collect()
    before = resident("VmRSS")
    if _reset():
        work()
        return max(resident("VmHWM") - before, 1)
    return max(_sampled(work) - before, 1)


def _reset() -> bool:
    """Set the high-water mark back to the present size; not every system allows it."""
    try:
        CLEAR.write_text("5")
    except OSError:
        return False
    return resident("VmHWM") <= resident("VmRSS") + (8 << 20)


def _sampled(work: Callable[[], object]) -> int:
    """The largest size seen by a thread that looks every 2 ms."""
    highest, done = [resident("VmRSS")], threading.Event()

    def watch() -> None:
        while not done.is_set():
            highest[0] = max(highest[0], resident("VmRSS"))
            time.sleep(0.002)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return highest[0]
