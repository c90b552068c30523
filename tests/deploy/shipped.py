"""Parses the files in deploy/ for the tests: YAML, with variables substituted as Docker Compose does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from services import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.monitoring.yml"

# The syntax that the file uses: escaped dollars, ${NAME}, ${NAME:-default} and ${NAME:?message}.
# https://docs.docker.com/reference/compose-file/interpolation/
_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\})")


class MissingVariableError(Exception):
    """A variable without a default is not set. The message comes from the file."""


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def document(file: Path) -> dict[str, Any]:
    (only,) = documents(file)
    return only


def compose_text(environ: Mapping[str, str]) -> str:
    """Return docker-compose.monitoring.yml with substituted variables. Raises MissingVariableError."""

    def value(match: re.Match[str]) -> str:
        if match["escaped"]:
            return "$"
        found = environ.get(match["name"], "")
        if not found and match["kind"] == "?":
            raise MissingVariableError(match["rest"])
        return found or (match["rest"] or "" if match["kind"] == "-" else "")

    without_comments = re.sub(r"(?m)^\s*#.*$", "", COMPOSE.read_text())
    return _VARIABLE.sub(value, without_comments)


def compose(environ: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(compose_text(environ))
    return found
