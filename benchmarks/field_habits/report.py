"""The tables of the study: what each habit says, beside the audit's verdict on the same systems."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from auditkit.contracts import Recipe
from auditkit.data.dataset import Floats
from benchmarks.field_habits.alarms import RING, false_alarms, others, over_seeds
from benchmarks.field_habits.cast import Cast, Group
from benchmarks.field_habits.disclosure import BOUNDS, Contrast, against_outside, between_systems, epsilons, halves
from benchmarks.field_habits.half import TOLERANCE, certified
from benchmarks.field_habits.non_members import areas, blind_scores
from benchmarks.field_habits.pairs import NON_MEMBERS, SIGNALS, signals
from benchmarks.field_habits.quality import oracle, quality
from benchmarks.field_habits.study import verdict_counts
from benchmarks.field_habits.tables import number, share, show, spanned


def _area_cells(cast: Cast, raw: Floats, z: Floats | None) -> list[str]:
    found = [areas(raw, cast.study.pairs)] + ([areas(z, cast.study.pairs)] if z is not None else [])
    return [" / ".join(spanned(each[kind]) for each in found) for kind in NON_MEMBERS]


def _group_row(name: str, cast: Cast, group: Group, rows: slice) -> list[str]:
    ours = group.ours[rows]
    cells = _area_cells(cast, group.answers["raw"][rows], group.answers["z"][rows])
    return [name, *cells, spanned([one.auc for one in ours]), verdict_counts(ours)]


def _ease_gold(cast: Cast) -> list[str]:
    recipe = Recipe.of("ease")
    model = recipe.architecture().fit([(cast.study.case.retain, 0)], recipe, device="cpu")[0]
    answer = signals(model, cast.study.pairs)
    return ["an EASE Gold", *_area_cells(cast, answer["raw"][None], answer["z"][None]), "", ""]


def show_non_members(cast: Cast) -> None:
    """Habit 1: forgotten pairs against what kind of non-members?"""
    study = cast.study
    blind = blind_scores(study.case.retain.train, study.plan.data, study.pairs)
    rows = [[f"no model: {name}", *_area_cells(cast, values, None), "", ""] for name, values in blind.items()]
    rows += [
        _ease_gold(cast),
        _group_row(f"{len(cast.golds.systems)} fresh Golds", cast, cast.golds, slice(None)),
        _group_row("originals", cast, cast.originals, slice(None)),
    ]
    if cast.snapshots is not None:
        for k, system in enumerate(cast.snapshots.systems):
            rows.append(_group_row(system.name, cast, cast.snapshots, slice(k, k + 1)))
    show(
        "1. AUC of forgotten pairs against non-members (raw score / z within the user's row)",
        ["", *NON_MEMBERS, "unit scores against Golds", "audit"],
        rows,
    )


def show_alarms(casts: Mapping[str, Cast]) -> None:
    """Habit 2: shares of Golds whose 95% interval excludes the truth."""
    columns: dict[str, dict[str, str]] = {}
    for regime, cast in casts.items():
        pairs, answers = cast.study.pairs, cast.golds.answers
        for signal in SIGNALS:
            values = answers[signal]
            forget, test = (values[:, pairs.rows(kind)] for kind in ("forget", "test"))
            found = false_alarms(forget, test, pairs.forget_users, pairs.test_users, seed=0)
            cells = {name: " / ".join(share(a) for a in alarms) for name, alarms in found.items()}
            cells[f"mean against {RING} Golds, t over seeds"] = share(over_seeds(forget))
            columns[f"{regime}, {signal}"] = cells
        units = np.stack([one.judged.runs.mean(0) for one in cast.golds.ours])
        columns[f"{regime}, {cast.study.plan.rules.primary}"] = {
            f"mean against {RING} Golds, t over seeds": share(over_seeds(units)),
            "the audit's level, 95% interval": share([one.excluded for one in cast.golds.ours]),
            "the audit's verdict": verdict_counts(cast.golds.ours),
        }
    names = list(dict.fromkeys(name for cells in columns.values() for name in cells))
    show(
        "2. False alarms of nominal 5% on fresh Golds (pairs as if independent / clustered by user)",
        ["", *columns],
        [[name, *(cells.get(name, "") for cells in columns.values())] for name in names],
    )


def _contrasts(cast: Cast) -> dict[str, list[Contrast]]:
    pairs, golds = cast.study.pairs, cast.golds.answers["z"]
    forget, test, users = golds[:, pairs.rows("forget")], golds[:, pairs.rows("test")], pairs.forget_users
    original = cast.originals.answers["z"][:, pairs.rows("forget")]
    return {
        "Gold against one Gold": between_systems(forget, others(forget, 1)[:, 0], users),
        "Gold, forgotten against test pairs (one draw)": against_outside(forget, test, users, pairs.test_users),
        "Gold, half the erased users against the rest": halves(forget, users, seed=0),
        "original against one Gold": between_systems(original, forget[: len(original)], users),
    }


def show_epsilons(casts: Mapping[str, Cast]) -> None:
    """Habit 3: epsilon bounds on Golds, where the truth is 0, and on the original."""
    rows, names = [], list(BOUNDS)
    for regime, cast in casts.items():
        for contrast, each in _contrasts(cast).items():
            found = epsilons(each)
            cells = [f"{share(found[name] > 0)}, {number(float(found[name].mean()))}" for name in names]
            rows.append([regime, contrast, *cells])
    show("3. Epsilon at least, 95%: share above 0, mean (z)", ["request", "", *names], rows)


def show_half(cast: Cast) -> None:
    """Habit 4: what an AUC of one half certifies."""
    if cast.snapshots is None:
        return
    rows = []
    for group in (cast.originals, cast.snapshots):
        test = areas(group.answers["z"], cast.study.pairs)["test"]
        for one, area in zip(group.ours, test, strict=True):
            says = [number(x) + (" passes" if certified(x) else "") for x in (one.auc, float(area))]
            rows.append([one.name, *says, *(number(v) for v in one.values), one.verdict, ", ".join(one.beyond)])
    rates = ", ".join(f"{name}: {rate:.5f}" if rate else f"{name}: none" for name, rate in cast.rates.items())
    show(
        f"4. AUC of .5 (within {TOLERANCE:g}) as the rule; learning rates of the tuned ones: {rates}",
        ["", "AUC against Golds", "AUC against test pairs", "level", "pattern", "spread", "audit", "beyond the margin"],
        rows,
    )


def show_honest(casts: Mapping[str, Cast]) -> None:
    """Habit 4, the other direction: how many honest Golds does the rule refuse?"""
    rows = []
    for regime, cast in casts.items():
        found = areas(cast.golds.answers["z"], cast.study.pairs) | {
            "Golds (unit scores)": np.array([one.auc for one in cast.golds.ours])
        }
        for kind, area in found.items():
            worst = float(area[np.argmax(np.abs(area - 0.5))])
            rows.append([regime, kind, share(~certified(area)), number(worst), verdict_counts(cast.golds.ours)])
    show(
        f"4b. Fresh Golds that the rule refuses (|AUC - .5| of {TOLERANCE:g} or more)",
        ["request", "AUC of z against", "refused", "farthest AUC", "audit"],
        rows,
    )


def show_quality(cast: Cast, runs: int) -> None:
    """Forget quality as other works print it: fresh Golds against other fresh Golds, originals, tuned systems.

    Args:
        cast: with at least 2 * runs fresh Golds.
        runs: systems a side.
    """
    pairs, fresh = cast.study.pairs, cast.golds
    forget = pairs.rows("forget")
    golds = fresh.answers["z"][runs : 2 * runs, forget]
    before = {name: values[0] for name, values in cast.originals.answers.items()}
    first = Group(fresh.systems[:runs], fresh.ours[:runs], {name: v[:runs] for name, v in fresh.answers.items()})
    rows, resolution = [], float("nan")
    for name, group in {"fresh Golds": first, **cast.many(runs)}.items():
        found = quality(group.answers["z"][:, forget], golds)
        resolution = found.resolution
        after = {signal: values[0] for signal, values in group.answers.items()}
        cells = [number(found.log10_p, 1), number(found.divergence, 2), number(found.divergence_normal, 2)]
        cells += [number(found.score), number(found.infinite), oracle(before, after, pairs)]
        rows.append([name, *cells, verdict_counts(group.ours)])
    show(
        f"5. Forget quality as others print it, {runs} systems against {runs} Golds (largest finite epsilon "
        f"{number(resolution, 2)})",
        ["", "KS log10 p", "KLoM", "KLoM, normal", "NeurIPS F", "infinite", "MIO before -> after (chance)", "audit"],
        rows,
    )
