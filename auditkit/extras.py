"""Optional packages: what asks for one that is not installed says which extra brings it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from auditkit.errors import ConfigurationError


@contextmanager
def needed(extra: str, need: str) -> Iterator[None]:
    """Imports inside it belong to an extra.

    Args:
        extra: its name.
        need: what needs what, such as `endpoints need requests`.

    Raises:
        ConfigurationError: a package is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ConfigurationError(f"{need} ({error}); install the extra: pip install 'auditkit[{extra}]'") from error
