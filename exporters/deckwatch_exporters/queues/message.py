"""Reads messages. Applications write them, so that any text may come."""

from __future__ import annotations

import json
from typing import Any


def json_of(message: object) -> Any:
    """What the JSON of a message says. None if it is no JSON, or nested too deeply."""
    if not isinstance(message, (bytes, str)):
        return None
    try:
        return json.loads(message)
    except (ValueError, RecursionError):
        return None


def fields_of(message: object) -> dict[str, Any]:
    """The fields of a message that is a JSON object; empty for anything else."""
    found = json_of(message)
    return found if isinstance(found, dict) else {}
