"""Settings that say how the text of a log line becomes fields, and what is sent of it: shared by files and journals."""

from __future__ import annotations

import codecs
import string
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import core_schema

from .patterns import Pattern
from .values import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

#: Names that stand for the whole text and the normalized level instead of a field.
LINE: Final = "line"
LEVEL: Final = "level"

#: Encodings in which the bytes of a line feed are a line feed and nothing else, by Python's names.
_ONE_BYTE_NEWLINES: Final = frozenset(
    (
        *("utf-8", "ascii", "koi8-r", "koi8-u", "mac-roman", "gbk", "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr"),
        *(f"iso8859-{part}" for part in range(1, 17) if part != 12),
        *(f"cp{page}" for page in (437, 850, 852, 866, 932, 949, 950, *range(1250, 1259))),
    )
)
_TWO_BYTE_NEWLINES: Final = ("utf-16", "utf-16-le", "utf-16-be")


def _checked_encoding(name: str) -> str:
    try:
        known = codecs.lookup(name).name
    except (LookupError, ValueError):
        known = ""
    if known not in _ONE_BYTE_NEWLINES and known not in _TWO_BYTE_NEWLINES:
        raise ValueError("an encoding such as utf-8, utf-16, latin-1, cp1252 or shift_jis")
    return known


def _checked_timezone(name: str) -> str:
    if name:
        zone_of(name)
    return name


#: The name that Python gives to it: `iso8859-1` for `latin-1`.
Encoding = Annotated[str, AfterValidator(_checked_encoding)]
TimeZone = Annotated[str, AfterValidator(_checked_timezone)]


def is_wide(encoding: str) -> bool:
    """Whether characters have two bytes, and line feeds too."""
    return encoding in _TWO_BYTE_NEWLINES


def zone_of(name: str) -> tzinfo | None:
    """The time zone of this name; None for ``, the local one. Raises ValueError."""
    if not name:
        return None
    if name.upper() == "UTC":
        return UTC  # also without a database of time zones
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("a time zone that the machine knows, such as Europe/Berlin or UTC") from None


class Selector:
    """A JMESPath expression, as settings hold it. Raises ValueError if it is invalid."""

    __slots__ = ("_search", "expression", "keys", "names")

    def __init__(self, expression: str) -> None:
        import jmespath  # loaded only if an expression is used

        try:
            compiled = jmespath.compile(expression)
            nodes = list(_nodes(compiled.parsed))
        except (jmespath.exceptions.JMESPathError, RecursionError):
            hint = "; put names such as @timestamp in double quotes" if "@" in expression else ""
            raise ValueError(f"a JMESPath expression such as record.level.name or tags[0]{hint}") from None
        unknown = _functions(nodes) - set(jmespath.functions.Functions.FUNCTION_TABLE)
        if unknown:
            raise ValueError(f"a function of JMESPath, not {min(unknown)}()")
        self.expression = expression
        #: Of a plain path such as `record.level.name`, the keys; else None.
        self.keys = _plain_path(compiled.parsed)
        #: The names that may be those of fields.
        self.names = frozenset(node["value"] for node in nodes if node["type"] == "field")
        self._search = compiled.search

    def find(self, fields: Mapping[str, Any]) -> Any:
        """The value in these fields; None if there is no value, or if the types do not fit the expression."""
        if self.keys is not None:
            value: Any = fields
            for key in self.keys:
                value = value.get(key) if isinstance(value, dict) else None
            return value
        from jmespath.exceptions import JMESPathError

        try:
            return self._search(fields)
        except (JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError):
            return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Selector) and other.expression == self.expression

    def __hash__(self) -> int:
        return hash(self.expression)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _as_selector,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda selector: selector.expression),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _schema: core_schema.CoreSchema, _handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string"}


def _as_selector(value: object) -> Selector:
    if isinstance(value, Selector):
        return value
    if not isinstance(value, str):
        raise ValueError("a JMESPath expression")
    return Selector(str(value))


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    yield tree
    for child in tree["children"]:
        if isinstance(child, dict):
            yield from _nodes(child)


def _functions(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["value"] for node in nodes if node["type"] == "function_expression"}


def _plain_path(tree: Any) -> tuple[str, ...] | None:
    if tree["type"] == "field":
        return (tree["value"],)
    if tree["type"] != "subexpression":
        return None
    paths = [_plain_path(child) for child in tree["children"]]
    return None if None in paths else tuple(key for path in paths if path for key in path)


def template_parts(template: str) -> list[tuple[str, str | None]]:
    """The parts of `{time} {message}`: text, and the name of the field after it or None. Raises ValueError."""
    parts: list[tuple[str, str | None]] = []
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (not name.strip() or form or conversion):
                raise ValueError
            parts.append((text, name))
    except ValueError:
        raise ValueError("text with fields in braces, such as '{logger}: {message}'; {{ is a brace") from None
    return parts


def _checked_template(template: str) -> str:
    if template and not any(name for _, name in template_parts(template)):
        raise ValueError("text with at least one field in braces, such as '{message}'")
    return template


class ParseSettings(Settings):
    """Reads the text of `field` (`line` is the whole text) in another format. Its fields join those of the line."""

    field: str
    format: Literal["json", "logfmt", "regex"] = "json"
    pattern: Pattern | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ParseSettings:
        check_pattern(self.pattern, self.format == "regex")
        return self


def _not_the_line(name: str) -> str:
    if not name or name == LINE:
        raise ValueError("a name for a field; line is the whole text")
    return name


class LineSettings(Settings):
    """How the text of a line is read and sent."""

    pattern: Pattern | None = None  # of the format `regex`: named groups are fields
    parse: tuple[ParseSettings, ...] = ()  # fields with text that has fields, in this order
    fields: dict[Annotated[str, AfterValidator(_not_the_line)], Selector] = Field(default_factory=dict)  # more, by name
    decolorize: bool = False  # removes the escape sequences of terminals first
    output: Annotated[str, AfterValidator(_checked_template)] = ""  # the text that is sent: `{logger}: {message}`
    tenant_field: str = ""  # the field with Loki's tenant

    @property
    def output_fields(self) -> tuple[str, ...]:
        return tuple(name for _, name in template_parts(self.output) if name)

    def check_line(self, kind: str) -> None:
        """Raise ValueError if the settings cannot be right for lines of the format `kind`."""
        check_pattern(self.pattern, kind == "regex")
        steps = {kind, *(step.format for step in self.parse)}
        if self.output and steps <= {"regex", "raw"}:
            patterns = (self.pattern, *(step.pattern for step in self.parse))
            groups = [name for pattern in patterns if pattern is not None for name in pattern.names]
            known = [*groups, *self.fields, LINE]
            unknown = [name for name in self.output_fields if name not in (*known, LEVEL)]
            if unknown:
                raise ValueError(f"output with these fields: {', '.join(known)}; there is no {unknown[0]}")


def check_pattern(pattern: Pattern | None, is_used: bool) -> None:
    """Raise ValueError if a pattern is missing, has no groups, or is not used."""
    if is_used and pattern is None:
        raise ValueError(r"pattern: a regular expression with named groups, such as '(?P<level>\w+): (?P<message>.*)'")
    if is_used and pattern is not None and not pattern.names:
        raise ValueError("pattern: a regular expression with a named group for each field: (?P<message>.*)")
    if pattern is not None and not is_used:
        raise ValueError("pattern only with format: regex")
