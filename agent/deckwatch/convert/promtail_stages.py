"""The stages of Promtail's pipelines: `json`, `labels`, `drop` and so on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from .business import escaped
from .conversion import LinedMap, NotConvertible
from .go_layout import converted
from .log_selector import conditions, holds
from .promtail_rule import LINE, Rule, expression

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_GROUP_NAME: Final = re.compile(r"\(\?P?<([A-Za-z_][A-Za-z0-9_]*)>")
_RESERVED_LABELS: Final = ("le", "target", "job", "instance")
_UNITS: Final = {"": "", "b": "", "kb": "KiB", "k": "KiB", "mb": "MiB", "m": "MiB", "gb": "GiB", "g": "GiB"}


def convert_stages(rule: Rule, stages: Iterable[LinedMap], only: dict[str, str] | None = None) -> None:
    """Convert stages in their order. `only` are the conditions under which they apply: expressions by field."""
    for stage in stages:
        for name in stage:
            line = stage.line_of(name)
            value = stage.get(name)
            if value is not None and not isinstance(value, LinedMap) and name not in ("labeldrop", "labelallow"):
                raise NotConvertible(f"{name} is not a mapping", line)
            if only and name not in ("drop", "metrics", "match"):
                rule.found.lost(line, f"{name} for some lines only. A rule applies its settings to all lines.")
            elif name == "match":
                _match(rule, stage.map(name), line, only or {})
            elif name == "drop":
                _drop(rule, stage.map(name), line, only or {})
            elif name == "metrics":
                _metrics(rule, stage.map(name), only or {})
            elif name in ("labeldrop", "labelallow"):
                _label_names(rule, name, stage.texts(name))
            elif name in _STAGES:
                _STAGES[name](rule, stage.map(name), line)
            else:
                rule.found.lost(line, f"stage {name}")


def _json(rule: Rule, settings: LinedMap, line: int) -> None:
    if not rule.read("json", settings.text("source"), "", line):
        return
    if settings.get("drop_malformed"):
        rule.found.lost(settings.line_of("drop_malformed"), "drop_malformed. Such lines are sent as they are.")
    expressions = settings.map("expressions")
    for name in expressions:
        rule.compute(name, expressions.text(name) or name, expressions.line_of(name))


def _logfmt(rule: Rule, settings: LinedMap, line: int) -> None:
    if not rule.read("logfmt", settings.text("source"), "", line):
        return
    mapping = settings.map("mapping")
    for name in mapping:
        key = mapping.text(name) or name
        rule.compute(name, key if key == name else _quoted(key), mapping.line_of(name))


def _regex(rule: Rule, settings: LinedMap, line: int) -> None:
    pattern = settings.text("expression")
    if not rule.read("regex", settings.text("source"), pattern, line):
        return
    for name in _GROUP_NAME.findall(pattern):
        if name == LINE:
            rule.refuse_name(settings.line_of("expression"))
            continue
        rule.fields.pop(name, None)
        rule.known[name] = name
        if settings.get("labels_from_groups"):
            rule.label_fields[name] = name


def _wrapped(kind: str) -> Callable[[Rule, LinedMap, int], None]:
    def convert(rule: Rule, _settings: LinedMap, line: int) -> None:
        if rule.is_journal or rule.format:
            rule.found.lost(line, f"{kind} after other stages, or for the journal")
            return
        rule.is_wrapped = True
        rule.more["format"] = kind
        rule.label_fields["stream"] = "stream"
        text, time = ("output", "timestamp") if kind == "docker" else ("content", "time")
        rule.known |= {"stream": "stream", text: LINE}
        rule.known.pop(time, None)

    return convert


def _labels(rule: Rule, settings: LinedMap, _line: int) -> None:
    for label in settings:
        source = settings.text(label) or label
        where = rule.field_of(source)
        if where is not None:
            rule.label_fields[label] = where
        elif source in rule.labels:
            rule.labels[label] = rule.labels[source]
        else:
            rule.found.lost(settings.line_of(label), f"label {label}: no stage before it extracts {source}")


def _static_labels(rule: Rule, settings: LinedMap, _line: int) -> None:
    for label in settings:
        rule.label_fields.pop(label, None)
        rule.labels[label] = settings.text(label)


def _label_names(rule: Rule, action: str, names: list[str]) -> None:
    for labels in (rule.labels, rule.label_fields):
        for label in [label for label in labels if (label in names) is (action == "labeldrop")]:
            del labels[label]
    if ("filename" in names) is (action == "labeldrop"):
        rule.has_filename = False


def _structured_metadata(rule: Rule, settings: LinedMap, _line: int) -> None:
    for name in settings:
        source = settings.text(name) or name
        where = rule.field_of(source)
        if where is None:
            rule.found.lost(settings.line_of(name), f"metadata {name}: no stage before it extracts {source}")
            continue
        if where != name:
            rule.compute(name, rule.fields.get(where, _quoted(where)), settings.line_of(name))
        if name not in rule.metadata:
            rule.metadata.append(name)


def _timestamp(rule: Rule, settings: LinedMap, line: int) -> None:
    source = settings.text("source")
    where = rule.field_of(source)
    layout = converted(settings.text("format"))
    if rule.is_journal:
        rule.found.lost(line, "timestamp. Entries have the time at which the journal received them.")
    elif where is None:
        rule.found.lost(line, f"timestamp: no stage before it extracts {source}")
    elif layout is None:
        rule.found.lost(settings.line_of("format"), f"the time format {settings.text('format')}. Set time_format.")
    else:
        rule.has_time = True
        rule.more["time_field"] = [where]
        if layout.time_format:
            rule.more["time_format"] = escaped(layout.time_format)
        if not layout.has_zone:
            rule.more["timezone"] = settings.text("location") or "UTC"
    if settings.get("fallback_formats"):
        others = [converted(one) for one in settings.texts("fallback_formats")]
        if layout is None or any(other is None or other.time_format for other in (layout, *others)):
            rule.found.lost(settings.line_of("fallback_formats"), "fallback_formats. A rule has one time format.")
    if settings.text("action_on_failure") == "fudge":
        rule.found.lost(settings.line_of("action_on_failure"), "fudge. Lines without a time get that of their reading.")


def _output(rule: Rule, settings: LinedMap, line: int) -> None:
    source = settings.text("source")
    where = rule.field_of(source)
    if where is None or "{" in where or "}" in where:
        rule.found.lost(line, f"output: no stage before it extracts {source}")
    else:
        rule.line = where


def _tenant(rule: Rule, settings: LinedMap, line: int) -> None:
    label, source, value = (settings.text(key) for key in ("label", "source", "value"))
    where = rule.label_fields.get(label) if label else rule.field_of(source)
    value = value or (rule.labels.get(label, "") if where is None else "")
    if where is None and value:
        where = "tenant" if "tenant" not in rule.known else "tenant_of_rule"
        rule.fields[where] = escaped("'" + value.replace("'", "\\'") + "'")
    if where is None:
        rule.found.lost(line, f"tenant: no stage before it extracts {source or label}")
    else:
        rule.more["tenant_field"] = where


def _multiline(rule: Rule, settings: LinedMap, line: int) -> None:
    if rule.is_journal:
        rule.found.lost(line, "multiline. Entries of the journal are whole.")
        return
    made: dict[str, Any] = {"first_line": expression(settings, "firstline")}
    if settings.text("max_wait_time"):
        made["max_wait"] = settings.text("max_wait_time")
    most = settings.text("max_lines")
    if most and not re.fullmatch("[0-9]{1,9}", most):
        raise NotConvertible("max_lines is not a number", settings.line_of("max_lines"))
    rule.more["multiline"] = made | {"max_lines": int(most or 128)}


def _replace(rule: Rule, settings: LinedMap, line: int) -> None:
    pattern, replacement, source = (settings.text(key) for key in ("expression", "replace", "source"))
    groups = _groups(pattern)
    where = rule.field_of(source) if source else rule.line
    if "{{" in replacement:
        rule.found.lost(settings.line_of("replace"), "replace with a template")
    elif len(groups) != 1:
        rule.found.lost(line, f"replace with {len(groups)} groups. Write one rule of redact for each.")
    elif where is None:
        rule.found.lost(line, f"replace: no stage before it extracts {source}")
    else:
        start, end = groups[0]
        made = {"matches": escaped(f"{pattern[:start]}(?P<secret>{pattern[end:]}"), "replacement": escaped(replacement)}
        rule.redacted.append((line, where, made))


def _groups(pattern: str) -> list[tuple[int, int]]:
    """Where each group of an expression begins that captures, and where its content does."""
    found, place, in_class = [], 0, False
    while place < len(pattern):
        one = pattern[place]
        if one == "\\":
            place += 1
        elif in_class:
            in_class = one != "]"
        elif one == "[":
            in_class = True
            place += pattern[place + 1 : place + 2] in ("]", "^")
        elif one == "(" and (name := _GROUP_NAME.match(pattern, place)):
            found.append((place, name.end()))
        elif one == "(" and pattern[place + 1 : place + 2] != "?":
            found.append((place, place + 1))
        place += 1
    return found


def _decolorize(rule: Rule, _settings: LinedMap, _line: int) -> None:
    rule.more["decolorize"] = True


def _drop(rule: Rule, settings: LinedMap, line: int, only: dict[str, str]) -> None:
    sources = settings.texts("source") if isinstance(settings.get("source"), list) else [settings.text("source")]
    sources = [source for source in sources if source]
    pattern = settings.text("expression")
    if settings.text("value"):
        pattern = f"^{re.escape(settings.text('value'))}$"
    match = dict(only)
    for source in sources or ([""] if pattern else []):
        where = rule.field_of(source) if source else rule.line
        if where is None or where in match or (len(sources) > 1 and pattern):
            rule.found.lost(line, f"drop with the source {', '.join(sources) or 'line'}")
            return
        match[where] = escaped(pattern) or ".*"
    made: dict[str, Any] = {}
    if len(match) == 1:
        (name, matches), *_ = match.items()
        made = ({"field": name} if name != LINE else {}) | {"matches": matches}
    elif match:
        made["match"] = match
    if settings.text("older_than"):
        made["older_than"] = settings.text("older_than")
    if settings.text("longer_than"):
        size = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", settings.text("longer_than"))
        unit = _UNITS.get(size[2].lower()) if size is not None else None
        if size is None or unit is None:
            rule.found.lost(settings.line_of("longer_than"), f"longer_than: {settings.text('longer_than')}")
            return
        made["longer_than"] = f"{size[1]}{unit}" if unit else int(size[1])
    if made:
        rule.add("drop", made)


def _match(rule: Rule, settings: LinedMap, line: int, only: dict[str, str]) -> None:
    selector = settings.text("selector")
    found = conditions(selector)
    if found is None:
        rule.found.lost(settings.line_of("selector"), f"match with the selector {selector}")
        return
    dynamic = dict(only)
    for condition in found:
        where = rule.line if condition.label is None else rule.label_fields.get(condition.label)
        if where is None:
            is_true = holds(condition, rule.labels)
            if is_true is None:
                rule.found.lost(settings.line_of("selector"), f"match with the selector {selector}")
                return
            if not is_true:
                return  # applies to no line of this rule
        elif condition.is_negated or where in dynamic:
            rule.found.lost(line, f"match with the selector {selector}. Write its stages as rules.")
            return
        else:
            dynamic[where] = escaped(condition.expression)
    if settings.text("action") == "drop":
        _drop(rule, LinedMap(), line, dynamic or {rule.line: ".*"})
    else:
        convert_stages(rule, settings.maps("stages"), dynamic or None)


def _metrics(rule: Rule, metrics: LinedMap, only: dict[str, str]) -> None:
    for name in metrics:
        settings, line = metrics.map(name), metrics.line_of(name)
        config, kind = settings.map("config"), settings.text("type").lower()
        source, action = settings.text("source") or name, config.text("action")
        where, takes_all = rule.field_of(source), bool(config.get("match_all"))
        full = (settings.text("prefix") or "promtail_custom_") + name
        is_counted = kind == "counter" and action == "inc"
        if (kind, action) not in (("counter", "inc"), ("counter", "add"), ("gauge", "set"), ("histogram", "")):
            rule.found.lost(line, f"metric {full}: type {kind} with the action {action}")
            continue
        if (takes_all and not is_counted) or (where is None and not takes_all):
            why = "it counts bytes" if takes_all else f"no stage before it extracts {source}"
            rule.found.lost(line, f"metric {full}: {why}")
            continue
        if kind == "counter" and not full.endswith("_total"):
            rule.found.changed(line, f"metric {full} becomes {full}_total, as counters have to be called")
            full += "_total"
        match = dict(only)
        if not takes_all and where is not None and (config.text("value") or is_counted):
            match[where] = f"^{escaped(re.escape(config.text('value')))}$" if config.text("value") else ".*"
        made: dict[str, Any] = {"name": full, "type": kind}
        made |= {"help": escaped(settings.text("description"))} if settings.text("description") else {}
        made |= {"field": where} if not is_counted else {}
        made |= {"match": match} if match else {}
        labels = {label: where for label, where in rule.label_fields.items() if label not in _RESERVED_LABELS}
        made |= {"labels": labels} if labels else {}
        made |= {"buckets": config["buckets"]} if config.get("buckets") else {}
        if rule.labels or rule.has_filename:
            rule.found.changed(line, f"metric {full} has no fixed labels, such as job and filename")
        rule.add("metrics", made)


def _quoted(key: str) -> str:
    """The JMESPath expression for a field with any name."""
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


_STAGES: Final[dict[str, Callable[[Rule, LinedMap, int], None]]] = {
    "json": _json,
    "logfmt": _logfmt,
    "regex": _regex,
    "docker": _wrapped("docker"),
    "cri": _wrapped("cri"),
    "labels": _labels,
    "static_labels": _static_labels,
    "structured_metadata": _structured_metadata,
    "non_indexed_labels": _structured_metadata,
    "timestamp": _timestamp,
    "output": _output,
    "tenant": _tenant,
    "multiline": _multiline,
    "replace": _replace,
    "decolorize": _decolorize,
}
