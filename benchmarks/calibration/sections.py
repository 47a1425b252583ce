"""The sections of the page: each study with what it asks and what it must show."""

from __future__ import annotations

import pandas as pd

from benchmarks.calibration import studies
from benchmarks.calibration.page import Study
from benchmarks.calibration.targets import Target
from benchmarks.calibration.worlds import World, pool


def _worlds(chosen: list[World]) -> pd.DataFrame:
    rows = [
        {
            "world": w.name,
            "Golds": w.golds,
            "originals": w.originals,
            "references": 64 * w.pairs,
            "systems": len(pool(w)),
        }
        for w in chosen
    ]
    return pd.DataFrame(rows)


def sections(chosen: list[World], tables: pd.DataFrame, pooled: dict[str, pd.DataFrame]) -> list[Study]:
    """All studies.

    Args:
        chosen: worlds that were run.
        tables: one row a system under test of every audit.
        pooled: name -> table of the studies on whole pools.
    """
    return [
        Study("Pools", "What was trained.", _worlds(chosen)),
        *_on_golds(tables), *_on_known_shares(tables), *_on_methods(tables), *_on_pools(pooled)
    ]  # fmt: skip


def _on_golds(tables: pd.DataFrame) -> list[Study]:
    return [
        Study(
            "Fresh Golds",
            "A Gold that is in no background, judged as if it were a method's work: how often a two-sided 5% test "
            "rejects 0, how often the spread lies above Gold's at a one-sided 5%, and verdicts at the default margins. "
            "Where the request is small, seed noise alone is wider than the default margin: such audits end "
            "INCONCLUSIVE and say what would settle them; they are listed as missing the target for PASS.",
            studies.null(tables),
            (
                Target(("level rejected",), 0.025, 0.08, "not ease"),
                Target(("level rejected, several runs",), None, 0.08),
                Target(("spread above",), 0.03, 0.08, "not ease"),
                Target(("PASS",), 0.85),
                Target(("FAIL",), None, 0.01),
            ),
        )
    ]


def _on_known_shares(tables: pd.DataFrame) -> list[Study]:
    return [
        Study(
            "Coverage of the effective dose",
            "Share of two-sided 95% intervals that hold the effective dose of the statistic (for the spread, the "
            "share of squared gains): of fresh Golds, of systems that hold a random 10% or less, of all that hold"
            " a share.",
            studies.coverage(tables),
            (
                Target(("level 0", "pattern 0", "spread 0"), 0.92),
                Target(("level <= .1", "pattern <= .1", "spread <= .1"), 0.9),
                Target(("level all", "pattern all", "spread all"), 0.9),
            ),
        ),
        Study(
            "At the boundary",
            "Every system that holds a known share, judged by a margin equal to the largest of its three "
            "effective doses.",
            studies.boundary(tables),
            (Target(("PASS", "FAIL"), None, 0.07),),
        ),
        Study(
            "Sensitivity",
            "Systems that never saw the rest of the request, at the default margins; *held* is their mean "
            "effective dose. *Beyond* are those that truly hold 1.5 times the margin or more.",
            studies.sensitivity(tables),
            (Target(("PASS beyond",), None, 0.02),),
        ),
    ]


def _on_methods(tables: pd.DataFrame) -> list[Study]:
    return [
        Study(
            "Methods that must not pass",
            "All profiles together. *Tuned* is the reverse-BPR snapshot nearest to Gold's level, *- constant* a "
            "system whose forgotten scores were shifted until the level is Gold's.",
            studies.groups(tables, studies.DISHONEST),
            (Target(("PASS",), None, 0.01),),
        ),
        Study(
            "Honest variants",
            "Systems that truly forgot by another procedure than Gold's. All profiles together.",
            studies.groups(tables, studies.HONEST),
            (Target(("FAIL",), None, 0.01),),
        ),
    ]


def _on_pools(pooled: dict[str, pd.DataFrame]) -> list[Study]:
    return [
        Study(
            "References read without themselves",
            "Slope of reading on effective dose. *In sample* are the same references read by weights that were "
            "fitted on them: the mistake that leaving out avoids.",
            pooled["slopes"],
            (Target(("left out",), 0.95, 1.05, "not item"), Target(("left out",), 0.92, 1.08, "item")),
        ),
        Study(
            "What varies together",
            "Variance of the level over the pool's Golds, divided by what independent units and what independent "
            "probe points would give.",
            pooled["dependence"],
            (Target(("actual / units",), 0.8, 1.3),),
        ),
        Study(
            "Sizes of the spread",
            "Mean square of a left-out Gold divided by that of a fresh one, both size-corrected, and one-sided 5%"
            " rejections of fresh Golds.",
            pooled["sizes"],
            (Target(("left out / fresh",), 0.97, 1.03), Target(("rejected above at 5%",), 0.03, 0.08)),
        ),
        Study(
            "Per-unit p-values",
            "Units of fresh Golds.",
            pooled["units"],
            (Target(("p <= .05",), 0.035, 0.065), Target(("p <= .001",), None, 0.002)),
        ),
    ]
