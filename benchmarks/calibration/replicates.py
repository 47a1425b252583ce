"""Many audits of a world, kept on disk: a stopped run goes on where it was, a changed rule starts anew."""

from __future__ import annotations

import hashlib
from functools import partial
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from auditkit.digests import digest_of
from auditkit.talk import Talk
from auditkit.writing import replace_file
from benchmarks.calibration.audits import replicate, rules_of
from benchmarks.calibration.candidates import Candidate
from benchmarks.calibration.pools import Pool

_ROOT = Path(__file__).resolve().parents[2]
# What a reading or a verdict depends on.
_RULE = (
    "auditkit/statistics/dose.py", "auditkit/statistics/likelihood.py", "auditkit/statistics/multiplicity.py",
    "auditkit/statistics/power.py", "auditkit/resolution.py",
    "auditkit/crossing.py", "auditkit/decoys.py", "auditkit/linear.py", "auditkit/findings.py", "auditkit/judge.py",
    "auditkit/controls.py", "auditkit/yardstick.py",
    *(f"attacks/{name}.py" for name in (
        "exposure", "fold_in", "fold_in_lists", "halves", "lira", "lira_combined", "lira_linear", "listed",
        "matched_items", "rank_probe", "top_lists",
    )),
    "benchmarks/calibration/audits.py", "benchmarks/calibration/derived.py",
)  # fmt: skip
_BATCH = 20


def rule_digest() -> str:
    """SHA-256 of the sources that decide readings and verdicts, 16 characters."""
    state = hashlib.sha256()
    for name in _RULE:
        state.update((_ROOT / name).read_bytes())
    return state.hexdigest()[:16]


def replicates(
    pool: Pool, profile: str, audits: int, primary: Candidate, folder: Path, *, runs: int = 1, jobs: int = 2
) -> pd.DataFrame:
    """`audits` resampled audits, one row a system under test.

    Args:
        pool: of the world.
        profile: quick, standard or certify.
        audits: how many.
        primary: the attack that decides.
        folder: where finished batches of 20 are kept.
        runs: of each system under test.
        jobs: processes.
    """
    systems = digest_of([s.name for s in pool.evidence.systems])[:8]
    margin = rules_of(pool, profile, primary).margin
    own = folder / pool.world.slug / f"audits-{rule_digest()}-{systems}-{profile}-{margin:g}-{runs}" / primary.slug
    batches = [range(k, min(k + _BATCH, audits)) for k in range(0, audits, _BATCH)]
    with Talk() as talk:
        for done, batch in enumerate(batches):
            path = own / f"{batch.start}-{batch.stop}.parquet"
            if not path.exists():
                talk(f"{pool.world.name}, {profile}, {primary.label}", done, len(batches))
                parts = Parallel(n_jobs=jobs, max_nbytes="1M")(
                    delayed(replicate)(pool, profile, seed, primary, runs=runs) for seed in batch
                )
                whole = pd.concat(parts, ignore_index=True)
                replace_file(path, partial(whole.to_parquet, index=False))
    return pd.concat([pd.read_parquet(own / f"{b.start}-{b.stop}.parquet") for b in batches], ignore_index=True)
