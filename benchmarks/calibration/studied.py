"""All studies of a set of pools, each decided by a chosen attack."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from auditkit.plan import SIZES
from benchmarks.calibration import pooled
from benchmarks.calibration.candidates import Candidate
from benchmarks.calibration.derived import with_derived
from benchmarks.calibration.page import Study
from benchmarks.calibration.pools import Pool
from benchmarks.calibration.replicates import replicates
from benchmarks.calibration.sections import sections
from benchmarks.calibration.worlds import World

# No spread is shown there (one unit, or an original that spreads no wider than Golds): nothing passes with fewer runs.
_TRIPLE = ("one user", "active user", "tiktok bpr-mf user")


def _count(world: World, profile: str, most: int) -> int:
    """Audits of a profile: half as many of the largest, which take most of the time."""
    count = min(world.audits, most)
    return count // 2 if profile == "certify" else count


def audited(full: Pool, primary: Candidate, store: Path, most: int, jobs: int) -> pd.DataFrame:
    """Resampled audits of a world at every profile, one row a system under test.

    Args:
        full: the pool, without derived systems.
        primary: the attack that decides.
        store: folder of finished audits.
        most: audits of a profile.
        jobs: processes.
    """
    runs = 3 if full.world.name.endswith(_TRIPLE) else 1
    added, parts = with_derived(full), []
    for profile in SIZES:
        table = replicates(added, profile, _count(full.world, profile, most), primary, store, runs=runs, jobs=jobs)
        parts.append(table.assign(world=full.world.name))
    return pd.concat(parts, ignore_index=True)


def _pooled(full: Pool, primary: Candidate, audits: int) -> dict[str, list[dict[str, object]]]:
    signed = full.world.backbone != "ease"
    found: dict[str, list[dict[str, object]]] = {
        "slopes": [pooled.reference_slopes(full, p, max(audits // 10, 3), primary) for p in SIZES],
        "units": [pooled.unit_tests(full, p, primary, max(audits // 5, 5)) for p in SIZES] if signed else [],
        "dependence": [pooled.dependence(full, primary)] if signed else [],
        "sizes": [],
    }
    if signed and full.evidence.units.shape[0] >= 20:
        found["sizes"] = [pooled.spread_sizes(full, golds, primary, 2 * audits) for golds in (4, 8, 16)]
    return found


def studied(pools: Sequence[Pool], primaries: Sequence[Candidate], store: Path, most: int, jobs: int) -> list[Study]:
    """Every study of these pools, each with the attack that decides there; arguments as in `audited`."""
    pairs = list(zip(pools, primaries, strict=True))
    tables = [audited(full, primary, store, most, jobs) for full, primary in pairs]
    parts = Parallel(n_jobs=jobs)(
        delayed(_pooled)(full, primary, min(full.world.audits, most)) for full, primary in pairs
    )
    extra = {key: pd.DataFrame([row for part in parts for row in part[key]]) for key in parts[0]}
    return sections([full.world for full in pools], pd.concat(tables, ignore_index=True), extra)
