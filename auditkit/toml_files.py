"""Reading TOML and saying what is wrong in it: alike for audit configurations and policies."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditkit.errors import ConfigurationError


def read_toml(path: Path, remedy: str = "name a TOML file") -> dict[str, Any]:
    """The tables of a TOML file.

    Args:
        path: the file.
        remedy: what to do where it cannot be read.

    Raises:
        ConfigurationError: it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}; {remedy}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error


def in_words(error: Mapping[str, Any], example: str) -> str:
    """One problem that pydantic found: key, domain, value and remedy.

    Args:
        error: an entry of `ValidationError.errors()`.
        example: the command that writes an example.
    """
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key; remove it or see `{example}` for the keys there are"
    if error["type"] == "missing":
        return f"{place}: missing; see `{example}` for an example"
    return f"{place}: {error['msg'][0].lower()}{error['msg'][1:]}, got {error['input']!r}"
