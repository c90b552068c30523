"""What an example consists of: its `example.yml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from demo.programs import DemoError

FOLDER = Path(__file__).resolve().parent


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProgramDefinition(_Model):
    """A program of the system.

    `{port}` in `run` is a free port, `{folder}` a folder for what the system writes, any other name a variable. `ready`
    is a path that answers with 200 on that port. `service` is the name in the metrics of its library.
    """

    run: str
    service: str = ""
    ready: str = ""
    environ: dict[str, str] = Field(default_factory=dict)


class FaultDefinition(_Model):
    """A fault: what happens to which program or server, and the alert to expect.

    `send` is a line for the program's standard input, `undo` the line that ends it.
    """

    what: str
    alerts: Annotated[tuple[str, ...], Field(min_length=1)]
    program: str
    how: Literal["stop", "kill", "pause", "send"]
    send: str = ""
    undo: str = ""
    builds_up: float = 0
    takes: float = 0


class Example(_Model):
    """An example. `schema_file` is SQL that its database starts with, `environ` has defaults of variables."""

    title: str
    servers: tuple[Literal["redis", "postgres"], ...] = ()
    schema_file: str = ""
    environ: dict[str, str] = Field(default_factory=dict)
    programs: dict[str, ProgramDefinition]
    faults: dict[str, FaultDefinition] = Field(default_factory=dict)


def names() -> list[str]:
    return sorted(file.parent.name for file in FOLDER.glob("*/example.yml"))


def load(name: str) -> Example:
    """Load an example. Raises DemoError."""
    if name not in names():
        raise DemoError(f"Unknown example: NAME={name}. Choose one of: {', '.join(names())}")
    file = FOLDER / name / "example.yml"
    try:
        return Example.model_validate(yaml.safe_load(file.read_text()))
    except (yaml.YAMLError, ValidationError) as wrong:
        raise DemoError(f"{file}: {wrong}") from None
