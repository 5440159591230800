"""Games hold one chunk at a time: scores, and the pieces between them, keep no memory of chunks that are done."""

from __future__ import annotations

import subprocess
import sys

import pytest

PEAK = """
import resource, torch
from captum.attr import ShapleyValueSampling
torch.set_num_threads(1)
weight, x = torch.randn(1000), torch.randn(500, 1000)
methods = [
    (ShapleyValueSampling(lambda x: torch.tanh(x @ weight)), x),
    (ShapleyValueSampling(lambda x: x[:, 0]), x[:100].double()),
]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for method, x in methods:
    method.attribute(x, n_samples=1)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is in KiB on Linux")
def test_the_peak_does_not_grow_with_the_number_of_chunks() -> None:
    """500,000 rows of 1,000 numbers are 2 GB in all, and some dozens of MB at a time; so are views as scores."""
    found = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert all(int(peak) < 300 * 1024 for peak in found.stdout.split()), found.stdout
