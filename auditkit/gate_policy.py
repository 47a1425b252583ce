"""What a release must show to pass the gate: a policy, read from TOML and checked as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from auditkit.errors import ConfigurationError
from auditkit.toml_files import in_words, read_toml

# Strict: a typed `true` is no 1.0.
Bound = Annotated[float, Field(strict=True)]
Name = Annotated[str, Field(min_length=1)]


Accepted = Literal["PASS", "FAIL", "INCONCLUSIVE"]


def _some(verdicts: tuple[Accepted, ...]) -> tuple[Accepted, ...]:
    if not verdicts:
        raise ValueError("no verdict would pass; name at least one")
    return verdicts


class GatePolicy(BaseModel):
    """Demands on a report. Each names a bound of an interval, never a point estimate.

    The default asks for what needs no choice: every audited system PASSes, no control that a verdict rests on is
    broken, and the audit had a power of at least .8. The other thresholds are demands only where they are set. What is
    demanded and was not measured does not pass.

    Attributes:
        systems: names of the audited systems to gate; empty: all of them.
        verdicts: verdicts that pass. INCONCLUSIVE passes only where it is named, with a warning; INVALID never does.
        controls: "verdict": the controls that a verdict rests on must be as expected, others only warn; "all": every
            control must be.
        max_margin: largest margin, on the dose scale, that the audit may have judged by.
        max_attainable_margin: largest margin at which nine in ten true Golds pass, on the dose scale.
        min_power: smallest probability that the audit finds a system that holds half of the units, in [0, 1].
        min_depth: smallest lower bound of the forgetting depth, at most 1.
        min_speedup: smallest lower bound of Gold's training time over the method's time per request, above 0.
        min_delta_vs_gold: for a utility metric such as `recall@20`, the smallest lower bound of its difference to the
            mean of the plain Golds, in the metric's unit, in [-1, 1].
        regression: what must not be worse than in the baseline report, where one is given: `depth`, `speedup` or a
            utility metric (its difference to Gold).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    systems: tuple[Name, ...] = ()
    verdicts: Annotated[tuple[Accepted, ...], AfterValidator(_some)] = ("PASS",)
    controls: Literal["verdict", "all"] = "verdict"
    max_margin: Bound | None = Field(None, gt=0)
    max_attainable_margin: Bound | None = Field(None, gt=0)
    min_power: Bound = Field(0.8, ge=0, le=1)
    min_depth: Bound | None = Field(None, le=1)
    min_speedup: Bound | None = Field(None, gt=0)
    min_delta_vs_gold: dict[Name, Annotated[Bound, Field(ge=-1, le=1)]] = {}
    regression: tuple[Name, ...] = ("depth", "recall@20", "ndcg@20")


def parse_policy(tables: Mapping[str, Any], source: str = "policy") -> GatePolicy:
    """Check a policy as read from TOML.

    Args:
        tables: its keys.
        source: what messages call it, such as a file's name.

    Raises:
        ConfigurationError: every unknown or ill-typed key and every value out of its domain, at once.
    """
    try:
        return GatePolicy.model_validate(dict(tables))
    except ValidationError as error:
        raise ConfigurationError(
            [f"{source}: {in_words(e, 'auditkit gate --example')}" for e in error.errors()]
        ) from None


def load_policy(path: Path) -> GatePolicy:
    """Read a policy.

    Raises:
        ConfigurationError: the file cannot be read, is no TOML, or has problems; all of them at once.
    """
    return parse_policy(read_toml(path), path.name)


EXAMPLE = """\
# What a release must show: auditkit gate report.json --policy gate.toml
# Thresholds are on bounds of intervals. What is asked for and was not measured does not pass.
# Unknown keys are errors, so a typing mistake cannot open the gate silently.

# systems = ["sisa"]            # audited systems to gate; absent: all of them
verdicts = ["PASS"]             # add "INCONCLUSIVE" to let it pass with a warning; INVALID never passes
controls = "verdict"            # those that a verdict rests on must be as expected; or "all"
min_power = 0.8                 # probability that the audit finds a system that still holds half of the units

# max_margin = 0.10             # largest margin the audit may have judged by
# max_attainable_margin = 0.10  # largest margin at which nine in ten true Golds pass
# min_depth = 0.85              # lower bound of the forgetting depth; 1 is like Gold, 0 is like the original
# min_speedup = 2.0             # lower bound of Gold's training time over the time per request

# With --baseline old.json: what must not be worse. Worse: the whole interval lies below the baseline's.
regression = ["depth", "recall@20", "ndcg@20"]   # depth, speedup, or a metric's difference to Gold

# Lower bounds of a metric's difference to the mean of the Golds, for any metric of the report:
# [min_delta_vs_gold]
# "recall@20" = -0.01
# "ndcg@20" = -0.01
"""
