"""The part of LogQL that the dashboards and runbooks use, evaluated over the entries that the double of Loki stored.

`query()` answers like Loki's query_range: streams for a log query, a vector at the end of the range for a metric query.
`serve()` answers over HTTP, to draw the dashboards. Other parts of LogQL raise NotLogQL.
https://grafana.com/docs/loki/latest/query/
"""

from __future__ import annotations

import contextlib
import json
import operator
import re
import threading
import time
import urllib.parse
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from loki import Double

_NAME = r"[a-zA-Z_]\w*"
_STRING = r'"(?:[^"\\]|\\.)*"|`[^`]*`'
_MATCHER = re.compile(rf"\s*({_NAME})\s*(=~|!~|!=|=)\s*({_STRING})\s*,?")
_FILTER = rf"{_NAME}\s*(?:=~|!~|!=|=)\s*(?:{_STRING})"
_STAGE = re.compile(
    rf"\s*(?:(?P<line>\|=|!=|\|~|!~)\s*(?P<text>{_STRING})"
    rf"|\|\s*(?P<json>json)\b|\|\s*line_format\s*(?P<format>{_STRING})"
    rf"|\|\s*unwrap\s+(?P<unwrap>{_NAME})"
    rf"|\|\s*(?P<filter>{_FILTER}(?:\s+or\s+{_FILTER})*))"
)
_VECTOR = re.compile(
    r"\s*(?P<op>sum|max|topk)\s*(?:by\s*\((?P<by>[^)]*)\))?\s*\((?:\s*(?P<k>\d+)\s*,)?(?P<inner>.*)\)\s*", re.S
)
_RANGE = re.compile(
    r"\s*(?P<op>count_over_time|max_over_time|rate)\s*\((?P<log>.*)\[(?P<range>\d+)(?P<unit>[smh])\]\s*\)\s*"
    r"(?:by\s*\((?P<by>[^)]*)\))?\s*",
    re.S,
)
Labels = tuple[tuple[str, str], ...]


class Entry(NamedTuple):
    labels: Mapping[str, str]
    time: int  # Unix nanoseconds
    line: str
    number: float = 1.0


class NotLogQL(ValueError):
    """The query uses a part of LogQL that is not implemented here."""


def query(entries: Sequence[Entry], text: str, start: float, end: float, step: float = 0) -> dict[str, Any]:
    """Raises NotLogQL. `start` and `end` in Unix seconds; without a step a metric query is evaluated at the end."""
    if text.lstrip().startswith("{"):
        streams: dict[Labels, list[list[str]]] = defaultdict(list)
        for entry in _log(entries, text):
            if start <= entry.time / 1e9 <= end:
                streams[tuple(sorted(entry.labels.items()))].append([str(entry.time), entry.line])
        return {"resultType": "streams", "result": [{"stream": dict(k), "values": v} for k, v in streams.items()]}
    series: dict[Labels, list[list[float | str]]] = defaultdict(list)
    moment = start + step if step else end
    while moment <= end:
        for labels, value in _metric(entries, text, moment).items():
            series[labels].append([moment, str(value)])
        moment += step or 1
    return {
        "resultType": "matrix",
        "result": [{"metric": dict(labels), "values": values} for labels, values in series.items()],
    }


def _metric(entries: Sequence[Entry], text: str, end: float) -> dict[Labels, float]:
    over = _RANGE.fullmatch(text)
    if over:
        begin = end - int(over["range"]) * {"s": 1, "m": 60, "h": 3600}[over["unit"]]
        groups: dict[Labels, list[float]] = defaultdict(list)
        by = _names(over["by"]) if over["by"] is not None else None
        for entry in _log(entries, over["log"]):
            if begin < entry.time / 1e9 <= end:
                groups[_kept(entry.labels, by)].append(entry.number)
        return {labels: _reduced(over["op"], numbers, end - begin) for labels, numbers in groups.items()}
    vector = _VECTOR.fullmatch(text)
    if not vector:
        raise NotLogQL(text)
    inner = _metric(entries, vector["inner"], end)
    if vector["op"] == "topk":
        return dict(sorted(inner.items(), key=operator.itemgetter(1), reverse=True)[: int(vector["k"])])
    merged: dict[Labels, list[float]] = defaultdict(list)
    for labels, value in inner.items():
        merged[_kept(dict(labels), _names(vector["by"] or ""))].append(value)
    return {labels: (sum if vector["op"] == "sum" else max)(values) for labels, values in merged.items()}


def _reduced(op: str, numbers: Sequence[float], seconds: float) -> float:
    if op == "max_over_time":
        return max(numbers)
    return len(numbers) / (seconds if op == "rate" else 1)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _kept(labels: Mapping[str, str], by: Sequence[str] | None) -> Labels:
    return tuple(sorted((k, v) for k, v in labels.items() if by is None or k in by))


def _log(entries: Sequence[Entry], text: str) -> list[Entry]:
    selector, _, pipeline = text.strip().partition("}")
    matchers = _MATCHER.findall(selector.removeprefix("{"))
    if not selector.startswith("{") or _MATCHER.sub("", selector.removeprefix("{")).strip() or not matchers:
        raise NotLogQL(text)
    if all(_matches(op, _unquoted(value), "") for _, op, value in matchers):
        raise NotLogQL(f"queries require at least one matcher that does not match the empty string: {text}")
    found = [e for e in entries if all(_matches(op, _unquoted(v), e.labels.get(n, "")) for n, op, v in matchers)]
    at = 0
    while pipeline[at:].strip():
        stage = _STAGE.match(pipeline, at)
        if not stage:
            raise NotLogQL(pipeline[at:])
        found = [entry for entry in map(_stage(stage), found) if entry is not None]
        at = stage.end()
    return found


def _stage(stage: re.Match[str]) -> Callable[[Entry], Entry | None]:
    if stage["line"]:
        pattern, regular, wanted = _unquoted(stage["text"]), "~" in stage["line"], not stage["line"].startswith("!")
        return lambda e: e if bool(re.search(pattern, e.line) if regular else pattern in e.line) is wanted else None
    if stage["json"]:
        return lambda e: e._replace(labels={**_fields(e.line), **e.labels})
    if stage["format"]:
        template = _unquoted(stage["format"])
        return lambda e: e._replace(line=re.sub(r"\{\{\s*\.(\w+)\s*\}\}", lambda m: e.labels.get(m[1], ""), template))
    if stage["unwrap"]:
        name = stage["unwrap"]
        return lambda e: e._replace(number=float(e.labels[name])) if name in e.labels else None
    alternatives = [(field, op, _unquoted(value)) for field, op, value in _MATCHER.findall(stage["filter"])]
    return lambda e: (
        e if any(_matches(op, value, e.labels.get(field, "")) for field, op, value in alternatives) else None
    )


def _fields(line: str) -> dict[str, str]:
    """Nested objects are joined with _ and arrays are skipped, as Loki's parser does."""
    try:
        found = json.loads(line)
    except ValueError:
        return {"__error__": "JSONParserErr"}
    return dict(_flat(found)) if isinstance(found, dict) else {}


def _flat(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}_")
        elif value is not None and not isinstance(value, list):
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)


def _unquoted(text: str) -> str:
    return text[1:-1] if text.startswith("`") else str(json.loads(text))


def _matches(op: str, wanted: str, value: str) -> bool:
    equal = re.fullmatch(wanted, value) is not None if "~" in op else value == wanted
    return equal is not op.startswith("!")


def entries(double: Double) -> list[Entry]:
    return [Entry(dict(labels), moment, line) for labels, stored in double.stored.items() for moment, line, _ in stored]


@contextlib.contextmanager
def serve(double: Double) -> Iterator[str]:
    """Run a server that answers these queries from the entries that the double has stored; its URL."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            start, end = int(asked.get("start", 0)) / 1e9, int(asked.get("end", time.time_ns())) / 1e9
            text, step = asked["query"], float(asked.get("step", 0))
            if text.startswith("topk") and "| json" in text:  # the query of a table, for which only the end counts
                text, step = re.sub(r"\[\d+s\]", f"[{int(end - start)}s]", text), 0
            else:
                step = max(step, 10)
                text = re.sub(r"\[\d+s\]", f"[{int(step)}s]", text)
            try:
                data = query(entries(double), text, start, end, step)
                status, answer = 200, {"status": "success", "data": data}
            except NotLogQL as error:
                status, answer = 400, {"error": str(error)}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
