"""What can be wrong with a plan before anything is built: every problem in words, none raised alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from auditkit.contracts import Recipe, Unlearner
from auditkit.data.dataset import Dataset
from auditkit.deletion import DeletionRequest
from auditkit.errors import ConfigurationError
from auditkit.outside.source import Elsewhere
from auditkit.plugins import attacks
from auditkit.splitting import tune_clusters

if TYPE_CHECKING:
    from auditkit.plan import Method, Settings

Profile = Literal["quick", "standard", "certify"]
SHORTEST_LIST = 20


def setting_problems(settings: Settings, request: DeletionRequest) -> list[str]:
    """Of counts, margins and rates."""
    found = _count_problems(settings)
    if settings.profile not in get_args(Profile):
        found.append(f"profile must be one of {', '.join(get_args(Profile))}, got {settings.profile!r}")
    if settings.margin is not None and not 0 < settings.margin < 1:
        found.append(f"margin must be in (0, 1), got {settings.margin}")
    if not 0 < settings.alpha < 0.5:
        found.append(f"alpha must be in (0, 0.5), got {settings.alpha}")
    if not 0 <= settings.min_power < 1:
        found.append(f"min_power must be in [0, 1) (a probability; 0 asks for none), got {settings.min_power}")
    try:
        tune_clusters(request, settings.tune, settings.seed)
    except ConfigurationError as error:
        found += error.problems
    return found


def _count_problems(settings: Settings) -> list[str]:
    found = []
    if settings.golds is not None and settings.golds < 2:
        found.append(f"golds must be 2 or more (their scatter is the yardstick), got {settings.golds}")
    if settings.references is not None and (settings.references < 4 or settings.references % 2):
        found.append(f"references must be an even number of 4 or more (complementary pairs), got {settings.references}")
    if settings.originals < 1:
        found.append(f"originals must be 1 or more, got {settings.originals}")
    if settings.list_length is not None and settings.list_length < SHORTEST_LIST:
        found.append(f"list_length must be {SHORTEST_LIST} or more (recall is of as many), got {settings.list_length}")
    if settings.seed < 0:
        found.append(f"seed must be 0 or more, got {settings.seed}")
    return found


def primary_problems(named: str | None, primary: str, regime: str) -> list[str]:
    """Of the primary attack: unknown, or not one that may judge the regime."""
    if primary not in attacks():
        return [f"primary must be one of {', '.join(attacks())}, got {primary!r}"]
    if named and regime not in attacks()[primary].primary_for:
        fitting = ", ".join(n for n in attacks() if regime in attacks()[n].primary_for)
        return [f"primary {primary!r} cannot judge {regime} requests; choose {fitting}"]
    return []


def request_problems(request: DeletionRequest, recipe: Recipe | None, data: Dataset) -> list[str]:
    """Of features that a request withdraws."""
    found = []
    if request.regime == "modality" and recipe is not None and not recipe.architecture().needs_features:
        found.append(f"a modality request needs a backbone that reads features; {recipe.backbone!r} reads none")
    absent = [m for m in request.modalities if m not in data.modalities]
    if absent:
        known = ", ".join(data.modalities) or "none"
        found.append(f"request.modalities: {', '.join(absent)} not in {data.name!r}, which has: {known}")
    return found


def given_problems(methods: Sequence[str], given: Elsewhere, recipe: Recipe | None) -> list[str]:
    """Nothing to audit, two systems of one name, two yardsticks, or an original that nothing imitates.

    Args:
        methods: names of the unlearners under test.
        given: systems made elsewhere.
        recipe: None where nothing is trained here.
    """
    found = []
    if not methods and not given.audited:
        found.append("there is nothing to audit: name at least one unlearner or given system")
    names = [*methods, *given.audited]
    found += [
        f"two systems are called {name!r}; give one of them a label"
        for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if given.yardstick and recipe is not None:
        found.append("there are two yardsticks: leave out [recipe], or the given systems with the role yardstick")
    if given.original is not None and recipe is None:
        found.append(
            "a given original is there for a recipe to imitate, and there is no [recipe]; add one, or leave it out"
        )
    return found


def method_problems(methods: Sequence[Method], recipe: Recipe | None, request: DeletionRequest) -> list[str]:
    """What the methods under test cannot do, each with its reason.

    Args:
        methods: under test.
        recipe: of the procedure under audit, with the trainer of the method that brings one; None where nothing is
            trained here.
        request: what is to be forgotten.
    """
    if recipe is None:
        return [f"unlearner {m.name!r} starts from a system that is trained here; add [recipe]" for m in methods]
    found = []
    for method in methods:
        if method.runs < 1:
            found.append(f"unlearner {method.name!r}: runs must be 1 or more, got {method.runs}")
        if not 1 <= method.steps <= max(request.n_units, 1):
            found.append(
                f"unlearner {method.name!r}: steps must be 1 or more and at most one a unit ({request.n_units}), "
                f"got {method.steps}"
            )
        reason = refusal(method.unlearner, recipe, request)
        if reason:
            found.append(f"unlearner {method.name!r} {reason}")
    return found


def refusal(unlearner: Unlearner, recipe: Recipe, request: DeletionRequest) -> str | None:
    """Why a method cannot be audited on systems of `recipe`, in words that follow its name; None where it can."""
    trainer = recipe.trainer
    if request.regime not in unlearner.regimes:
        return f"cannot answer {request.regime} requests, only: {', '.join(sorted(unlearner.regimes))}"
    if trainer is not None and unlearner != trainer and unlearner.parents != "any":
        own = "its own training" if unlearner.trains else "a plainly trained backbone"
        return (
            f"needs {own}, and the systems of this audit are trained by {trainer.name!r}: one audit has one training "
            "procedure, so audit it apart (reports of several audits are put side by side by `auditkit compare`)"
        )
    reason = unlearner.refuses(recipe, request)
    return f"cannot do this: {reason}" if reason else None
