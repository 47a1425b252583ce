"""What verdict the methods get that are meant to fail: none that still holds more than the margin allows may PASS.

    python -m benchmarks.bad_unlearners --store FOLDER [--backbones bpr-mf,lightgcn] [--regimes interaction,user,item] [--seeds 5]

A seed is that of request, training and unlearning alike. Every audit's numbers are kept in a JSON file under --results, so a
run that was killed goes on where it stopped; systems are kept in the store. An audit is done again when what it audits, or the
source of a method, is another one; delete its file after a change of the rules alone.

The effective dose is known by construction where the weights are kept (1) or a known share of the units is (random-90: .1).
Else it is read: 1 - depth of the primary attack, or the residual dose of a diagnostic that counts, whichever is larger; where
the erased rows are kept (other-side-retrained) the reading of those rows counts in any regime. Exit code 1 if a method PASSes
whose effective dose is 1.5 margins or more; a PASS below that is listed with its residue.
"""  # noqa: E501

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from auditkit.api import audit_plan
from auditkit.contracts import Unlearner
from auditkit.digests import digest_of
from auditkit.plan import Method, Plan
from auditkit.record import Record, SystemEntry
from auditkit.sources import source_digest
from auditkit.talk import Talk
from auditkit.unlearners import controls, controls_ladder, controls_partial, controls_tuned
from benchmarks.common import parser, plan_of

BAD: tuple[Unlearner, ...] = (
    controls.NoOp(), controls.SignFlipped(), controls.OutputMask(), controls.RowReinit(),
    controls_partial.RowsDropped(), controls_partial.OtherSideRetrained(), controls_partial.RandomPart(),
    controls_partial.PopularOnly(), controls_partial.StaleGraph(), controls_tuned.Noise(),
    controls_tuned.OverForgetting(), controls_tuned.MinusConstant(), controls_tuned.TunedToAUC(),
    controls_ladder.TunedToLevel(),
)  # fmt: skip
KNOWN: Mapping[str, float] = {
    "no-op": 1.0, "output-mask": 1.0, "rows-dropped": 1.0, "minus-constant": 1.0, "random-90": 0.1
}  # fmt: skip
# What keeps the erased rows is read there, also in item requests, where rows are notes to a verdict.
KEPT: Mapping[str, str] = {"other-side-retrained": "lira-linear"}
# Of margins: below this an effective dose is within what the interval and the request's luck may hide.
_FORBIDDEN = 1.5


@dataclass(frozen=True)
class Outcome:
    """One method in one audit; numbers are None where they were not measured.

    Attributes:
        name: of the method.
        verdict, reason: of the audit.
        depth, level, pattern, spread: of the primary attack.
        margin: of the audit.
        counted, noted: attack -> residual dose, of the diagnostics that can FAIL and of the others.
        recall: Recall@20.
    """

    name: str
    verdict: str
    reason: str
    depth: float | None
    level: float | None
    pattern: float | None
    spread: float | None
    margin: float
    counted: dict[str, float]
    noted: dict[str, float]
    recall: float | None

    @property
    def margins(self) -> float | None:
        """The effective dose in margins."""
        read = [abs(dose) for dose in self.counted.values()]
        read += [] if self.depth is None else [1 - self.depth]
        read += [abs(dose) for attack, dose in self.noted.items() if attack == KEPT.get(self.name)]
        dose = KNOWN.get(self.name, max(read, default=None))
        return None if dose is None else dose / self.margin

    @property
    def forbidden(self) -> bool:
        """It PASSes and holds more than it may."""
        return self.verdict == "PASS" and (self.margins is None or self.margins >= _FORBIDDEN)


def outcome(system: SystemEntry, margin: float) -> Outcome:
    """What the report says of a method."""
    doses = [(f.counts, f.attack, f.residual_dose.value) for f in system.findings if not f.primary]
    counted, noted = (
        {attack: dose for counts, attack, dose in doses if counts is wanted and dose is not None}
        for wanted in (True, False)
    )
    return Outcome(
        system.name, system.verdict or "", system.reasons[0] if system.reasons else "", system.depth.value,
        system.residual_dose.value, system.pattern.value, system.spread.value, margin, counted, noted,
        system.utility["recall@20"].value,
    )  # fmt: skip


def applicable(backbone: str, plan: Plan) -> list[Method]:
    """Those that mean something for this backbone and regime; says why the others do not."""
    found = []
    for bad in BAD:
        reason = bad.refuses(plan.trained, plan.request) if plan.request.regime in bad.regimes else "regime"
        if reason is None:
            found.append(Method(bad))
        elif reason != "regime":
            print(f"{backbone} {plan.request.regime}: no {bad.name}: {reason}")
    return found


def audited(options: argparse.Namespace, results: Path) -> dict[str, Outcome]:
    """One audit of all bad methods, or what is kept of it."""
    methods = applicable(options.backbone, plan_of(options))
    plan = plan_of(options, methods)
    sources = [source_digest(type(m.unlearner)) for m in methods]
    key = digest_of(plan.digest, sources, [f.name for f in fields(Outcome)])
    place = results / f"{options.backbone}-{options.regime}-{options.profile}-{options.seed}.json"
    kept = json.loads(place.read_text()) if place.exists() else {}
    if kept.get("key") != key:
        with Talk() as talk:
            record = audit_plan(plan, out=None, store=Path(options.store), progress=talk)
        kept = {"key": key, "controls": _controls(record), "methods": _outcomes(record)}
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(kept, indent=1))
    print(f"{options.backbone} {options.regime} seed {options.seed}: {kept['controls']}", flush=True)
    return {name: Outcome(**values) for name, values in kept["methods"].items()}


def _controls(record: Record) -> str:
    shown = "; ".join(f"{c.name}: {c.observed}" for c in record.controls)
    return f"margin {record.policy.margin:g}, attainable {record.attainable_margin}; {shown}"


def _outcomes(record: Record) -> dict[str, dict[str, object]]:
    systems = [s for s in record.systems if s.role == "unlearned"]
    return {s.name: asdict(outcome(s, record.policy.margin)) for s in systems}


def line(name: str, runs: Sequence[Outcome]) -> str:
    """One method over its seeds: verdicts, effective dose in margins (lowest to highest), medians of what was read."""
    verdicts = " ".join(f"{n} {verdict}" for verdict, n in Counter(r.verdict for r in runs).most_common())
    margins = [r.margins for r in runs if r.margins is not None]
    known = "known" if name in KNOWN else "read"
    dose = f"{min(margins):.1f}..{max(margins):.1f} {known}" if margins else "-"
    read = " ".join(_median([getattr(r, part) for r in runs]) for part in ("level", "pattern", "spread", "recall"))
    elsewhere = [f"{attack} {dose}" for attack, dose in _medians([r.counted for r in runs]).items()]
    elsewhere += [f"({attack} {dose})" for attack, dose in _medians([r.noted for r in runs]).items()]
    wrong = "  <- must not PASS" if any(r.forbidden for r in runs) else ""
    return f"{name:20} {verdicts:24} {dose:18} {read}  {', '.join(elsewhere)}{wrong}"


def _medians(runs: Sequence[Mapping[str, float]]) -> dict[str, str]:
    attacks = sorted({attack for run in runs for attack in run})
    return {attack: _median([run.get(attack) for run in runs]).strip() for attack in attacks}


def _median(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{np.median(known):8.3f}" if known else f"{'-':>8}"


def residues(name: str, runs: Sequence[Outcome]) -> list[str]:
    """What a method that PASSes still holds."""
    return [
        f"  residue: {name} PASSes with an effective dose of {r.margins * r.margin:.3f} ({r.margins:.2f} margins)"
        for r in runs
        if r.verdict == "PASS" and r.margins is not None
    ]


def _options() -> argparse.Namespace:
    made = parser(__doc__)
    made.add_argument("--backbones", default="bpr-mf,lightgcn")
    made.add_argument("--regimes", default="interaction,user,item")
    made.add_argument("--seeds", type=int, default=5, help="how many, from --seed on")
    made.add_argument("--results", help="folder of the JSON files (default: bad_unlearners in the store)")
    return made.parse_args()


def table(options: argparse.Namespace, results: Path) -> int:
    """Audit one backbone and regime with every seed and print what came out; how many PASS that must not."""
    runs: dict[str, list[Outcome]] = {}
    for seed in range(options.seed, options.seed + options.seeds):
        one = argparse.Namespace(**{**vars(options), "seed": seed})
        for name, found in audited(one, results).items():
            runs.setdefault(name, []).append(found)
    print(f"\n{options.backbone}, {options.regime}, {options.profile}, {options.seeds} seeds")
    columns = " ".join(f"{name:>8}" for name in ("level", "pattern", "spread", "R@20"))
    print(f"{'method':20} {'verdicts':24} {'dose in margins':18} {columns}  diagnostics (notes)")
    for name, outcomes in runs.items():
        print("\n".join([line(name, outcomes), *residues(name, outcomes)]))
    print(flush=True)
    return sum(r.forbidden for outcomes in runs.values() for r in outcomes)


def main() -> None:
    """Print one table per backbone and regime."""
    options, wrong = _options(), 0
    results = Path(options.results or Path(options.store) / "bad_unlearners")
    for backbone in options.backbones.split(","):
        for regime in options.regimes.split(","):
            options.backbone, options.regime = backbone, regime
            wrong += table(options, results)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
