"""Every error auditkit raises on purpose, split by what the reader can do about it."""

from __future__ import annotations

from collections.abc import Sequence


class AuditkitError(Exception):
    """Base of all errors that auditkit raises on purpose."""


class ConfigurationError(AuditkitError):
    """What was asked for cannot be done as written; all problems at once, each with its remedy."""

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (problems,) if isinstance(problems, str) else tuple(problems)
        head = "" if len(self.problems) == 1 else f"{len(self.problems)} problems:\n- "
        super().__init__(head + "\n- ".join(self.problems))


class DataError(AuditkitError):
    """A data file or array is not what it must be; mend the data."""


class StoreError(AuditkitError):
    """The store on disk cannot be read or written; the message names the file and the way out."""


class PluginError(AuditkitError):
    """A plug-in is unknown, broken or registered twice."""


class NotApplicableError(AuditkitError):
    """A measurement cannot be made on this system or request; normal flow, reported with its reason."""


class NotFactorizedError(NotApplicableError):
    """A backbone has no pair of embedding tables whose product is the score; `score` is what counts."""
