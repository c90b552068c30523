"""Reads messages. Applications write them, so that any text may come."""

from __future__ import annotations

import base64
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


def kombu_body(message: object) -> bytes | None:
    """The body of a message of kombu's virtual transports. None for anything else. kombu/transport/virtual/base.py."""
    envelope = fields_of(message)
    body, properties = envelope.get("body"), envelope.get("properties")
    if not isinstance(body, str) or not isinstance(properties, dict):
        return None
    try:
        return base64.b64decode(body) if properties.get("body_encoding") == "base64" else body.encode()
    except ValueError:
        return None
