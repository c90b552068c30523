"""deploy/Dockerfile is small, pinned and runs without root. Its steps are checked without Docker."""

from __future__ import annotations

import re
import shlex

from services import ROOT

from .shipped import DEPLOY

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
INSTRUCTIONS = [line for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]


def _of(keyword: str) -> list[str]:
    return [line.removeprefix(keyword).strip() for line in INSTRUCTIONS if line.startswith(keyword + " ")]


def test_each_stage_is_the_same_pinned_slim_python() -> None:
    images = [stage.split()[0] for stage in _of("FROM")]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+", images[0])


def test_the_agent_runs_without_root() -> None:
    user = _of("USER")[-1].split(":")[0]
    assert user.isdecimal(), "Kubernetes can verify only numeric user IDs as non-root"
    assert int(user) > 0
    assert INSTRUCTIONS.index("USER " + _of("USER")[-1]) > INSTRUCTIONS.index("FROM " + _of("FROM")[-1])


def test_versions_come_from_the_constraints_and_no_registry_is_configured() -> None:
    assert "PIP_CONSTRAINT=/source/constraints.txt" in DOCKERFILE
    assert not re.search(r"index.url|://|trusted.host", "\n".join(INSTRUCTIONS))


def test_the_image_defines_a_health_check() -> None:
    (check,) = _of("HEALTHCHECK")
    program = shlex.split(check.partition("CMD ")[2].strip("[]"))[-1]
    compile(program, "the health check", "exec")
    assert "/health" in program


def test_the_build_context_contains_only_the_required_files() -> None:
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    assert "*" in lines
    given = {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert {"agent", "exporters", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} <= given
    assert {name for name in given if not (ROOT / name).exists()} == set()
