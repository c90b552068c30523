"""What settings are made of: durations, sizes, secrets, and the model they all derive from."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr, WithJsonSchema


class Settings(BaseModel):
    """What every part of the config is made of: frozen, an unknown key is an error, defaults are validated too.

    A field of type `Secret` named `password` may be given as `password_file: PATH` instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, ser_json_inf_nan="constants")


#: A value that no log line, error, label or page shows.
Secret = SecretStr

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d|w))+")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGTP]i?)?B?", re.IGNORECASE)


def parse_duration(value: Any) -> float:
    """Seconds above 0, from `15s`, `1m30s`, `500ms`, `2h`, `1d` or a number of seconds. Raises ValueError."""
    seconds = None
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        seconds = sum(float(number) * _DURATION_UNITS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds is None or not 0 < seconds < float("inf"):
        raise ValueError("a duration above 0, such as 15s, 1m30s or 500ms")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes, from `512MiB`, `1GiB`, `10MB`, `1k` or a number of bytes. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a size such as 512MiB, 10MB or a number of bytes")
    number, prefix = match.groups()
    if not prefix:
        return int(float(number))
    base = 1024 if prefix.lower().endswith("i") else 1000
    return int(float(number) * base ** ("kmgtp".index(prefix[0].lower()) + 1))


Duration = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "number", "exclusiveMinimum": 0},
                {"type": "string", "pattern": r"^((\d+(\.\d+)?(ms|s|m|h|d|w))+|.*\$\{.*)$"},
            ]
        }
    ),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0},
                {"type": "string", "pattern": r"^(\d+(\.\d+)?\s*([kKmMgGtTpP]i?)?[bB]?|.*\$\{.*)$"},
            ]
        }
    ),
]
