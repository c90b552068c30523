"""The settings of one Redis target."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from deckwatch.exporter import Duration, Pattern, Settings
from deckwatch_exporters.clients.redis.patterns import escape_pattern
from deckwatch_exporters.clients.redis.settings import ConnectionSettings

if TYPE_CHECKING:
    from pydantic import GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

_GLOB = re.compile(r"[*?\[]")
_DB_PREFIX = re.compile(r"db([0-9]{1,9})=(.+)", re.DOTALL)


def _checked_command(value: Any) -> Any:
    # YAML reads `off` as false.
    return "off" if value is False or value == "-" else value


class KeySelection(Settings):
    """A key by its exact name, or all keys that match a SCAN pattern; `db` defaults to that of the URL.

    As a string: `queue`, `session:*`, `db3=queue`. A string that contains `*`, `?` or `[` is a pattern.
    """

    key: str = ""
    pattern: str = ""
    db: int | None = Field(default=None, ge=0)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        match = _DB_PREFIX.fullmatch(value)
        name = match[2] if match else value
        return {"pattern" if _GLOB.search(name) else "key": name, **({"db": int(match[1])} if match else {})}

    @model_validator(mode="after")
    def _one(self) -> KeySelection:
        if bool(self.key) == bool(self.pattern):
            raise ValueError("a name such as queue, a pattern such as session:*, {key: ...} or {pattern: ...}")
        return self

    @property
    def scan_pattern(self) -> str:
        """The pattern of SCAN for what is selected."""
        return self.pattern or escape_pattern(self.key)


class KeyGroupSettings(Settings):
    """Groups of keys by parts of their names: number of keys and memory.

    `patterns` are regular expressions in RE2 syntax. The groups of the first match form the name of the key's group,
    which is `unclassified` if none matches. Memory is measured for at most `memory_samples` keys.
    """

    patterns: tuple[Pattern, ...] = (Pattern(r"^([^:]+):"),)
    databases: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    max_groups: int = Field(default=100, ge=1, le=10_000)
    memory_samples: int = Field(default=1000, ge=0, le=100_000)


class ScanSettings(Settings):
    """Limits of one scan of the keys. It stops at the first one that it reaches."""

    count: int = Field(default=1000, ge=1, le=100_000)
    iterations: int = Field(default=100, ge=1)
    time: Duration = 1.0
    max_keys: int = Field(default=1000, ge=1)


class StreamSettings(KeySelection):
    """A stream, or all that match a pattern; `consumers` adds series for each consumer of each group."""

    consumers: bool = True


class SlowlogSettings(Settings):
    """New entries of the slow log as events. `redact` hides all arguments; `first_key` still shows the first one."""

    events: bool = True
    redact: bool = True
    first_key: bool = False
    fetch: int = Field(default=128, ge=1, le=10_000)


class _AsText:
    """Adds the string form to the JSON schema."""

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler(schema)]}


_Selection = TypeVar("_Selection", bound=KeySelection)
_OrText = Annotated[_Selection, _AsText]


class RedisSettings(ConnectionSettings):
    """One Redis server, or the current master of a Sentinel service. Credentials here override those in the URL."""

    config_command: Annotated[str, BeforeValidator(_checked_command)] = Field(default="CONFIG", min_length=1)
    config_values: bool = False
    client_list: bool = False
    modules: bool = False
    slowlog: SlowlogSettings = SlowlogSettings()
    keys: tuple[_OrText[KeySelection], ...] = ()
    count_keys: tuple[_OrText[KeySelection], ...] = ()
    streams: tuple[_OrText[StreamSettings], ...] = ()
    key_groups: KeyGroupSettings | None = None
    scan: ScanSettings = ScanSettings()
    keys_interval: Duration = 60.0

    @property
    def watches_keys(self) -> bool:
        return bool(self.keys or self.count_keys or self.streams or self.key_groups)
