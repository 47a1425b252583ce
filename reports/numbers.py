"""How numbers are written in every report; what was not measured says so, never 0."""

from __future__ import annotations

import math

from auditkit.record import CostEntry, Estimate

NOT_MEASURED = "not measured"


def number(value: float | None, digits: int = 3) -> str:
    """A number with fixed decimals, such as `0.031`; "not measured" where it is None or not finite."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    written = f"{value:.{digits}f}"
    # A rounded -0.000 would read as a direction that the digits do not show.
    return written.removeprefix("-") if float(written) == 0 else written


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign, such as `+0.004`."""
    written = number(value, digits)
    return f"+{written}" if value is not None and written != NOT_MEASURED and float(written) > 0 else written


def bounds(estimate: Estimate, digits: int = 3) -> str:
    """The interval alone, such as `[-0.01, 0.07]`; a missing end is written as inf, none as ""."""
    if estimate.low is None and estimate.high is None:
        return ""
    low = "-inf" if estimate.low is None else number(estimate.low, digits)
    high = "inf" if estimate.high is None else number(estimate.high, digits)
    return f"[{low}, {high}]"


def interval(estimate: Estimate, digits: int = 3) -> str:
    """An estimate with its interval, such as `0.03 [-0.01, 0.07]`."""
    return f"{number(estimate.value, digits)} {bounds(estimate, digits)}".strip()


def p_value(value: float | None) -> str:
    """A p-value with three decimals; below that `< 0.001`."""
    return "< 0.001" if value is not None and value < 0.001 else number(value)


def least_p(value: float | None) -> str:
    """The smallest p-value a test can show, such as `0.00012`; "not measured" where there is none."""
    return NOT_MEASURED if value is None else f"{value:.2g}" if value >= 1e-4 else f"{value:.0e}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share as a percentage, such as `5%`."""
    return NOT_MEASURED if value is None else f"{number(100 * value, digits)}%"


def count(value: int | None) -> str:
    """A whole number with thousands separated, such as `80,000`."""
    return NOT_MEASURED if value is None else f"{value:,}"


def counted(n: int, noun: str) -> str:
    """A number with its noun, such as `1 pair` and `4,000 pairs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def ratio(estimate: Estimate) -> str:
    """A ratio with its interval, such as `1.50 [1.45, 1.56]` or `46,045 [44,409, 47,741]`."""
    value = estimate.value or 0.0
    # Two significant digits below a tenth: a slow method's 0.004 must not read 0.00.
    small = 1 - math.floor(math.log10(value)) if 0 < value < 0.1 else 2
    digits = small if value < 10 else 1 if value < 100 else 0
    ends = [NOT_MEASURED if end is None else f"{end:,.{digits}f}" for end in (estimate.low, estimate.high)]
    written = NOT_MEASURED if estimate.value is None else f"{value:,.{digits}f}"
    return written if NOT_MEASURED in ends else f"{written} [{ends[0]}, {ends[1]}]"


def seconds(value: float | None) -> str:
    """A duration, such as `12 ms`, `0.42 s`, `3 min 5 s` or `2 h 10 min`."""
    if value is None or not math.isfinite(value):
        return NOT_MEASURED
    if value < 0.1:
        return "< 1 ms" if value < 0.001 else f"{1000 * value:.3g} ms"
    if value < 60:
        return f"{value:.3g} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60:,} h {minutes % 60} min"


def parts(cost: CostEntry) -> str:
    """What lies within a time: the parts that could run apart, and the requests that it is the mean of."""
    told = []
    if cost.requests > 1:
        told.append(f"mean of {cost.requests} requests, {seconds(cost.total_s)} together")
    if cost.n_pieces:
        slowest, mean = seconds(cost.slowest_piece_s), seconds(cost.mean_piece_s)
        told.append(f"{cost.n_pieces} parts: slowest {slowest}, mean {mean}")
    return "; ".join(told) or "one work"


def size(value: int | None) -> str:
    """Memory in binary units, such as `1.4 GiB`."""
    if value is None:
        return NOT_MEASURED
    power = min(max(int(math.log2(value) // 10), 0), 4) if value > 0 else 0
    unit = ("bytes", "KiB", "MiB", "GiB", "TiB")[power]
    return f"{value:,} {unit}" if power == 0 else f"{value / 1024**power:.1f} {unit}"


def short(digest: str, length: int = 12) -> str:
    """The head of a digest; whoever shows it keeps the whole of it within reach."""
    return digest if len(digest) <= length else f"{digest[:length]}…"
