"""What work took: wall and CPU seconds, peak memory, in words that name no host."""

from __future__ import annotations

import mmap
import platform
import time

import numpy as np
import pytest
import torch

from auditkit.costs import Cost, machine, measured, piece

MEBI = 1 << 20


def test_sleeping_takes_wall_time_but_no_processor() -> None:
    with measured("cpu", solo=True) as cost:
        time.sleep(0.2)
    found = cost()
    assert 0.2 <= found.wall_s < 2
    assert found.cpu_s < 0.15
    assert found.solo
    assert found.machine == machine()


def test_working_takes_processor_time() -> None:
    with measured("cpu", solo=False) as cost:
        end = time.process_time() + 0.1
        while time.process_time() < end:
            pass
    assert cost().cpu_s >= 0.1
    assert cost().wall_s >= 0.09
    assert not cost().solo


def test_peak_is_what_was_held_at_once_above_the_start() -> None:
    # Straight from the system: the allocator may serve an array from memory that earlier tests freed and it kept.
    with measured("cpu", solo=True) as cost, mmap.mmap(-1, 64 * MEBI) as held:
        np.frombuffer(held, np.uint8)[:] = 1
    assert 60 * MEBI < cost().peak_bytes < 200 * MEBI
    with measured("cpu", solo=True) as cost:
        pass
    # The peak of earlier work is not billed to later work.
    assert cost().peak_bytes < 30 * MEBI


def test_a_failure_in_the_body_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError), measured("cpu", solo=True):
        _ = 1 / 0


def test_a_members_part_of_a_group() -> None:
    whole = Cost(8.0, 12.0, 4 * MEBI, "m", False)
    assert whole.divided(4) == Cost(2.0, 3.0, MEBI, "m", False)


def test_pieces_are_noted_apart_within_the_total() -> None:
    with measured("cpu", solo=True) as cost:
        for seconds in (0.05, 0.1):
            with piece():
                time.sleep(seconds)
        time.sleep(0.05)
    first, second = cost().pieces
    assert 0.05 <= first < second
    assert cost().wall_s >= first + second + 0.05
    assert cost().divided(1).pieces == (first, second)
    assert cost().divided(2).pieces == ()


def test_pieces_belong_to_the_measurement_they_lie_in() -> None:
    with piece():
        pass
    with measured("cpu", solo=True) as outer, measured("cpu", solo=True) as inner, piece():
        pass
    assert len(inner().pieces) == 1
    assert outer().pieces == ()
    with pytest.raises(ZeroDivisionError), measured("cpu", solo=True), piece():
        _ = 1 / 0
    with measured("cpu", solo=True) as cost:
        pass
    assert cost().pieces == ()


def test_machine_is_described_without_its_name() -> None:
    assert "cores" in machine()
    assert platform.system() in machine()
    assert platform.node() not in machine()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_device_memory_is_measured_on_the_device() -> None:
    with measured("cuda", solo=True) as cost:
        held = torch.ones(64 * MEBI // 4, device="cuda")
        del held
    assert cost().peak_bytes >= 64 * MEBI
