"""What a piece of work took: wall and CPU seconds and peak memory, the device synchronised before and after."""

from __future__ import annotations

import os
import platform
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch


@dataclass(frozen=True)
class Cost:
    """Only solo costs of one machine may be divided by one another.

    Attributes:
        wall_s, cpu_s: seconds; CPU is summed over threads.
        peak_bytes: highest resident memory above the start (device memory on a GPU).
        machine: what it ran on, in words without a host name.
        solo: no other system was built at the same time by this audit.
        pieces: wall seconds of the parts that could each have run on a machine of its own (shards), in the order they
            were done; empty where the work is one. They are within `wall_s`.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int
    machine: str
    solo: bool
    pieces: tuple[float, ...] = ()

    def divided(self, n: int) -> Cost:
        """One member's part of a group of `n` that was trained at once."""
        if n == 1:
            return self
        return replace(self, wall_s=self.wall_s / n, cpu_s=self.cpu_s / n, peak_bytes=self.peak_bytes // n, pieces=())


@cache
def machine() -> str:
    """Processor, cores and system of this machine."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        # Elsewhere the peak since the start of the process is the best there is.
        return


def _resident(field: str) -> int:
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# Where pieces of the work that is being measured are noted.
_NOTED: ContextVar[list[float] | None] = ContextVar("_NOTED", default=None)


@contextmanager
def piece() -> Iterator[None]:
    """Wrap a part of the work that could run on a machine of its own: a shard's training.

    The ledger then has the slowest and the mean part beside the total. Outside of a measurement it does nothing.
    """
    start = time.perf_counter()
    yield
    noted = _NOTED.get()
    if noted is not None:
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        noted.append(time.perf_counter() - start)


@contextmanager
def measured(device: str, *, solo: bool) -> Iterator[Callable[[], Cost]]:
    """Measure the body; call the yielded function after it for the cost."""
    gpu = torch.device(device).type == "cuda"

    def settled() -> None:
        if gpu:
            torch.cuda.synchronize(device)

    if gpu:
        torch.cuda.reset_peak_memory_stats(device)
    settled()
    _reset_peak()
    before, wall, cpu = _resident("VmRSS"), time.perf_counter(), time.process_time()
    result: list[Cost] = []
    pieces: list[float] = []
    token = _NOTED.set(pieces)
    try:
        yield lambda: result[0]
    finally:
        _NOTED.reset(token)
    settled()
    wall_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    peak = torch.cuda.max_memory_allocated(device) if gpu else max(0, _resident("VmHWM") - before)
    result.append(Cost(wall_s, cpu_s, peak, machine(), solo, tuple(pieces)))
