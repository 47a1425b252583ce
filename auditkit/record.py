"""The Record: everything an audit concluded, typed and versioned. Every report is a pure function of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from auditkit.errors import DataError
from auditkit.record_figures import Curves as Curves
from auditkit.record_figures import Histogram as Histogram
from auditkit.record_figures import RankShift as RankShift
from auditkit.record_figures import RocCurve as RocCurve
from auditkit.record_figures import Rung as Rung

# The second number counts additions that have defaults: reports of a lower one can still be read.
SCHEMA_VERSION = "1.5"
SCHEMA_ID = f"urn:auditkit:report:{SCHEMA_VERSION}"

Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "INVALID"]
Section = Literal["leak", "over_forgotten", "clean", "inconclusive", "release", "not_applicable", "error"]
Role = Literal["original", "unlearned", "gold", "plain gold", "reference", "unlearned reference", "control"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(_Part):
    """A number with its interval. `value` is None where it is undefined, and `note` says why."""

    value: float | None = Field(None, description="point estimate; null where undefined")
    low: float | None = Field(None, description="lower end of the interval; null where it has none")
    high: float | None = Field(None, description="upper end of the interval")
    confidence: float | None = Field(None, description="coverage of [low, high], two-sided")
    method: str = Field("", description="how estimate and interval were made")
    n_units: int | None = None
    n_systems: int | None = None
    seed: int | None = None
    note: str = ""


class UtilityEstimate(Estimate):
    """A utility metric with its difference to the mean of the plain Golds."""

    delta_vs_gold: Estimate = Estimate()


class Depth(Estimate):
    """Forgetting depth: 1 - max(|L|, |P|, max(rho, 0)) of the primary attack."""

    attack: str = ""
    statistic: str = Field("", description="which of level, pattern, spread is the deepest trace")


class CostEntry(_Part):
    """What making the system took. Only solo costs of one machine may be divided by one another."""

    train_s: float | None = Field(None, description="wall seconds of training from scratch, its own stopping rule")
    unlearn_s: float | None = Field(None, description="wall seconds per request, everything included")
    cpu_s: float | None = None
    peak_bytes: int | None = Field(None, description="peak resident memory above the start, bytes")
    machine: str = ""
    solo: bool = Field(False, description="it had the machine to itself")
    requests: int = Field(1, description="deletion requests in a row that were answered; `unlearn_s` is their mean")
    total_s: float | None = Field(None, description="wall seconds of all requests together, or of the training")
    n_pieces: int = Field(0, description="parts that could each run on a machine of its own (shards); 0 = one work")
    slowest_piece_s: float | None = Field(None, description="wall seconds of the slowest part; never the method's time")
    mean_piece_s: float | None = Field(None, description="wall seconds of a part on average")


class Speedup(Estimate):
    """The plain Gold's training time over the method's time per request, the work of all its parts together."""

    break_even_requests: float | None = Field(None, description="requests after which a costlier training pays off")


class Finding(_Part):
    """What the statistics conclude from one attack on one system."""

    attack: str
    parameters: dict[str, Any] = {}
    access: list[str] = []
    primary: bool = False
    counts: bool = Field(False, description="it can FAIL the system; else it is a note")
    section: Section
    residual_dose: Estimate = Estimate()
    pattern: Estimate = Estimate()
    spread: Estimate = Estimate()
    auc: Estimate = Field(Estimate(), description="of the system's unit scores against the Golds'")
    tpr_at_fpr: dict[str, Estimate] = {}
    epsilon_low: Estimate = Estimate()
    bands: dict[str, Estimate] = Field({}, description="distance by group of units, above Golds' own, in a Gold's sd")
    n_units: int = 0
    n_points: int = 0
    n_golds: int = 0
    n_references: int = 0
    attainable_margin: float | None = None
    p_value: float | None = Field(
        None, description="of the hypothesis that the system is no further from Gold than the margin"
    )
    coverage: float | None = Field(None, description="share of the probe points that the system answered")
    note: str = ""


class UnitTests(_Part):
    """How many units of a system are told from Golds one by one, by the primary attack."""

    n_tested: int = Field(0, description="judged units with a score of the system and of every Gold")
    n_rejected: int = Field(0, description="units whose Benjamini-Hochberg q is at most `rate`")
    n_rejected_dependent: int = Field(0, description="the same by Benjamini and Yekutieli, under any dependence")
    n_above: int = Field(0, description="of the rejected ones, those on the original's side of Gold")
    rate: float = Field(0.05, description="false discovery rate")
    floor: float | None = Field(None, description="smallest p-value that this many Golds can show")
    method: str = ""
    note: str = ""


class UnitGroup(_Part):
    """Units whose popularity (or activity) lies in a range: a tenth of them where ties allow it."""

    by: Literal["popularity", "activity"] = Field(description="training degree of the item, or of the user")
    low: int = Field(description="smallest degree in the group")
    high: int = Field(description="largest degree in the group")
    n_units: int


class Decile(UnitGroup):
    """One group of forgotten units and its residual dose on the group's own scale. Descriptive: it FAILs nothing."""

    residual_dose: Estimate
    p_value: float | None = Field(
        None, description="of a dose within the margin, Holm-corrected over all groups of the system"
    )
    worst: bool = Field(False, description="largest |dose| of the system's groups")


class Exposure(_Part):
    """How pairs of one group rank as the system is served; no yardstick is in it, so it is no dose."""

    group: Literal["forget", "retain", "outside"]
    n_pairs: int
    percentile: float | None = Field(None, description="mean percentile rank among all items, 1 = top")
    top_20: float | None = Field(None, description="share that ranks among the 20 best of all items")
    listed: dict[str, float] = Field({}, description="length of the lists -> share of the pairs that they show")


class SystemEntry(_Part):
    """One system; several runs of one method are one entry."""

    name: str
    role: Role
    method: str
    label: str = Field("", description="published, reconstructed, baseline, control or made elsewhere")
    parameters: dict[str, Any] = {}
    seeds: list[int]
    procedure: str
    source: str = Field("", description="where a system made elsewhere came from")
    digests: list[str] = Field([], description="addresses of its builds in the store")
    verdict: Verdict | None = None
    reasons: list[str] = []
    depth: Depth = Depth()
    residual_dose: Estimate = Estimate()
    pattern: Estimate = Estimate()
    spread: Estimate = Estimate()
    utility: dict[str, UtilityEstimate] = {}
    cost: CostEntry = CostEntry()
    speedup_vs_gold: Speedup = Speedup()
    findings: list[Finding] = []
    exposure: list[Exposure] = []
    unit_tests: UnitTests | None = None
    deciles: list[Decile] = []


class Control(_Part):
    """A check of the audit itself."""

    name: str
    expected: str
    observed: str
    ok: bool
    consequence: str = Field("", description="what it means for the verdict where it is not ok")


class RetainedGroup(UnitGroup):
    """One group of retained units and its share beyond the Golds' band."""

    beyond: Estimate


class Retained(Estimate):
    """Root mean square distance of retained units to the mean Gold; 1 is what a Gold left out shows."""

    beyond: Estimate = Field(
        Estimate(), description="share of retained units outside the Golds' 95% band; .05 is what a Gold shows"
    )
    worst: RetainedGroup | None = Field(None, description="the tenth of units with the largest such share")


class Policy(_Part):
    """What was fixed before the unlearned systems were probed."""

    profile: str
    margin: float
    alpha: float
    primary: str
    golds: int
    references: int
    digest: str
    min_power: float = Field(0.0, description="smallest acceptable `power`; below it nothing can PASS")
    power: float | None = Field(
        None,
        description="probability, from the Golds alone, that one run that holds half of the units is found: "
        "lower bound of its level above 0",
    )
    tune: float = Field(0.0, description="share of the request's clusters that choices were tuned on")


class Settle(_Part):
    """What would let nine in ten true Golds pass the margin; each number is enough alone, null where it cannot be."""

    golds: int | None = None
    golds_now: int
    runs: int | None = Field(None, description="of the method under test, each with its own seed")
    runs_now: int = 1
    units: int | None = None
    units_now: int
    references: int | None = Field(None, description="null also where the attack's weights are not from references")
    references_now: int
    attainable: float = Field(description="smallest margin that nine in ten true Golds pass as things stand")
    floor: float | None = Field(None, description="the same with infinitely many Golds")
    note: str = ""


class DatasetEntry(_Part):
    """The data set that was audited on."""

    name: str
    n_users: int
    n_items: int
    n_interactions: int
    digest: str
    modalities: list[str] = []


class CommittedUnits(_Part):
    """The request's units, committed to under a key that the auditor keeps; see `auditkit.commitment`."""

    root: str = Field(pattern="^[0-9a-f]{64}$", description="Merkle root that proofs of single units are checked with")
    n_units: int = Field(ge=1)


class RequestEntry(_Part):
    """The deletion request."""

    regime: str
    selection: str
    n_units: int
    n_interactions: int
    n_units_without_data: int = 0
    n_units_judged: int = 0
    n_units_tune: int = Field(0, description="units that choices were tuned on and that are not judged")
    digest: str
    commitment: CommittedUnits | None = Field(None, description="only in a published report, whose digests are keyed")


class BackboneEntry(_Part):
    """The architecture under test."""

    name: str
    hyperparameters: dict[str, Any]
    fit: dict[str, Any] = {}


class Protocol(_Part):
    """How utility was measured and the model selected."""

    split: str
    masked: str
    selection_metric: str
    selection_split: str = "not recorded"
    negatives: str
    epoch: str
    l2: str
    procedure: str = Field("plain", description="how systems are trained: plainly, or by a method in its own way")


class UnitsFile(_Part):
    """The per-unit table beside the report."""

    path: str
    digest: str


class Environment(_Part):
    """Where the audit ran."""

    python: str
    packages: dict[str, str]
    device: str
    git: str | None = None


class Record(_Part):
    """A whole audit. Field names are what other tools rely on."""

    schema_version: str = SCHEMA_VERSION
    generator: str
    created: str = Field(description="UTC, ISO 8601")
    config_digest: str
    verdict: Verdict
    reasons: list[str]
    exit_code: int
    policy: Policy
    dataset: DatasetEntry
    request: RequestEntry
    backbone: BackboneEntry
    protocol: Protocol
    attainable_margin: float | None = Field(
        None, description="of the primary attack, before the unlearned systems were probed"
    )
    systems: list[SystemEntry]
    yardstick: Literal["here", "owner", "none"] = Field(
        "here", description="who made originals, Golds, references: trained here, given by the owner, or there are none"
    )
    controls: list[Control]
    settle: Settle | None = Field(
        None, description="what would make the margin attainable; null where it is, or where nothing can be said"
    )
    retained: dict[str, Retained] = Field(
        {}, description="distance of retained units to the Golds, in Gold-to-Gold units"
    )
    ladder: list[Rung]
    curves: Curves
    units: UnitsFile | None = None
    limits: list[str]
    environment: Environment

    def to_json(self) -> str:
        """Indented JSON with a final newline. What is NaN or infinite is null, in the parameters of methods too."""
        # pydantic's own text has null there, its `model_dump` has NaN, which is no JSON.
        return json.dumps(json.loads(self.model_dump_json()), indent=2, allow_nan=False) + "\n"

    @classmethod
    def read(cls, path: Path) -> Record:
        """Load and check a report.

        Raises:
            DataError: the file is absent, is not JSON or does not follow the schema; says where.
        """
        try:
            return cls.model_validate_json(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise DataError(f"cannot read report {path}: {error.strerror}") from error
        except ValueError as error:
            raise DataError(f"{path} is not an auditkit report of schema {SCHEMA_VERSION}: {error}") from error


def schema() -> dict[str, Any]:
    """JSON Schema of report.json (draft 2020-12)."""
    made = Record.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": SCHEMA_ID, **made}


def worst(verdicts: list[Verdict]) -> Verdict:
    """FAIL > INVALID > INCONCLUSIVE > PASS; nothing judged is INCONCLUSIVE."""
    order: tuple[Verdict, ...] = ("FAIL", "INVALID", "INCONCLUSIVE", "PASS")
    return next((v for v in order if v in verdicts), "INCONCLUSIVE")


EXIT_CODES: dict[Verdict, int] = {"PASS": 0, "FAIL": 1, "INCONCLUSIVE": 4, "INVALID": 4}
