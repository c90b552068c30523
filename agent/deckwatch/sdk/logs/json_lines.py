"""Log records as JSON lines: valid JSON whatever is logged, with the trace and without credentials."""

import json
import logging
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from pythonjsonlogger.core import RESERVED_ATTRS
from pythonjsonlogger.json import JsonFormatter

from deckwatch.logs.parsing.credentials import is_secret_name, may_contain_credentials, without_credentials

_MAX_DEPTH: Final = 20
_REDACTED: Final = "***"
#: Names of fields that the formatter writes. `taskName` is an attribute of records since Python 3.12.
RESERVED: Final = frozenset({*RESERVED_ATTRS, "taskName", "timestamp", "level", "logger", "message", "service"})


def _orjson_dumps() -> Callable[[object], str] | None:
    try:
        import orjson
    except ImportError:
        return None
    option = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
    return lambda data: orjson.dumps(data, _default, option).decode()


class JsonLines(JsonFormatter):
    """One JSON object per record: timestamp (of the record, UTC), level, logger, message, service, extra fields.

    Fields of the current OpenTelemetry span are added. A record that cannot be formatted is written with its text.
    """

    def __init__(self, service: str) -> None:
        super().__init__(["message"], reserved_attrs=[*RESERVED_ATTRS, "taskName"])
        self._service = service
        self._dumps = _orjson_dumps()
        self._second = -1
        self._prefix = ""

    def format(self, record: logging.LogRecord) -> str:
        try:
            return super().format(record)
        except (TypeError, ValueError, KeyError) as failure:
            # The arguments do not fit the text.
            plain = logging.makeLogRecord({**vars(record), "msg": "%s", "args": (f"{record.msg!r} {record.args!r}",)})
            plain.format_error = f"{type(failure).__name__}: {failure}"
            return super().format(plain)

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        log_data["timestamp"] = self._timestamp(record.created)
        log_data["level"] = record.levelname
        log_data["logger"] = record.name
        log_data["message"] = ""
        log_data["service"] = self._service
        super().add_fields(log_data, record, message_dict)
        if "trace_id" not in log_data:
            log_data.update(_trace())

    def jsonify_log_record(self, log_data: Mapping[str, Any]) -> str:
        line = self._json(log_data)
        if may_contain_credentials(line):
            line = self._json(_redacted(log_data))
        return line

    def _json(self, data: Mapping[str, Any]) -> str:
        if self._dumps is not None:
            try:
                return self._dumps(data)
            except TypeError:
                pass  # invalid UTF-8, large integers, circular references
        return json.dumps(_plain(data), ensure_ascii=False, allow_nan=False, separators=(",", ":"))

    def _timestamp(self, created: float) -> str:
        second, micro = divmod(round(created * 1_000_000), 1_000_000)
        if second != self._second:
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._prefix}.{micro:06d}Z"


def _trace() -> dict[str, str]:
    """The ids of OpenTelemetry's current span, if the application has loaded OpenTelemetry and has a span."""
    opentelemetry = sys.modules.get("opentelemetry.trace")
    if opentelemetry is None:
        return {}
    context = opentelemetry.get_current_span().get_span_context()
    if not context.is_valid:
        return {}
    return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}


def _redacted(value: Any, depth: int = 0) -> Any:
    """A copy without credentials, in values of all fields and under names such as `password`."""
    if isinstance(value, str):
        return without_credentials(value)
    if depth > _MAX_DEPTH or value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {
            key: _REDACTED if is_secret_name(str(key)) else _redacted(inner, depth + 1) for key, inner in value.items()
        }
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_redacted(inner, depth + 1) for inner in value]
    return without_credentials(str(_default(value)))


def _plain(value: Any, depth: int = 0) -> Any:
    """A copy that consists of what JSON has: strings of valid UTF-8, finite numbers, lists and objects."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if depth > _MAX_DEPTH:
        return "..."
    if isinstance(value, Mapping):
        return {_plain(str(key)): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        return [_plain(inner, depth + 1) for inner in value]
    return _plain(_default(value), depth + 1)


def _default(value: object) -> object:
    """What stands in JSON for an object of another type."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    isoformat = getattr(value, "isoformat", None)
    try:
        return isoformat() if callable(isoformat) else str(value)
    except Exception as failure:  # noqa: BLE001 - the code of the application's class runs here
        return f"<{type(value).__name__}: {type(failure).__name__}>"
