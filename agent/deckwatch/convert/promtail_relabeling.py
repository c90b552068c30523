"""`relabel_configs` of Promtail: for files they are applied to the fixed labels, for the journal they choose fields."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .business import escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .conversion import Conversion, LinedMap
    from .promtail_rule import Rule

_DEFAULT: Final = "(.*)"
_JOURNAL: Final = "__journal_"
_PRIORITY: Final = "__journal_priority_keyword"


def relabeled(found: Conversion, labels: dict[str, str], rules: Sequence[LinedMap]) -> dict[str, str] | None:
    """The labels after these rules; None if a rule drops the targets."""
    labels = dict(labels)
    for rule in rules:
        action = rule.text("action") or "replace"
        source = (rule.text("separator") or ";").join(labels.get(name, "") for name in rule.texts("source_labels"))
        try:
            pattern = re.compile(rule.text("regex") or _DEFAULT)
        except re.error:
            found.lost(rule.line, f"relabel_configs with the expression {rule.text('regex')}")
            continue
        match = pattern.fullmatch(source)
        if action == "replace":
            if match is not None:
                value = _expanded(match, rule.text("replacement") if "replacement" in rule else "$1")
                labels[rule.text("target_label")] = value
                if not value:
                    del labels[rule.text("target_label")]
        elif action in ("keep", "drop"):
            if (match is None) is (action == "keep"):
                return None
        elif action in ("labeldrop", "labelkeep"):
            is_dropped = action == "labeldrop"
            labels = {
                name: text
                for name, text in labels.items()
                if name.startswith("__path") or (pattern.fullmatch(name) is None) is is_dropped
            }
        else:
            found.lost(rule.line_of("action"), f"relabel_configs with the action {action}")
    return labels


def _expanded(match: re.Match[str], replacement: str) -> str:
    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        try:
            return match[int(name) if name.isdigit() else name] or ""
        except IndexError:
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+))", group, replacement)


def relabeled_journal(rule: Rule, rules: Sequence[LinedMap]) -> None:
    """Turn rules about fields of the journal into labels and conditions."""
    kept: dict[str, str] = {}
    for settings in rules:
        action, pattern = settings.text("action") or "replace", settings.text("regex") or _DEFAULT
        sources, target = settings.texts("source_labels"), settings.text("target_label")
        name = sources[0] if len(sources) == 1 else ""
        is_plain = settings.text("replacement") in ("", "$1", "${1}")
        if not name.startswith(_JOURNAL) or not is_plain:
            rule.found.lost(settings.line, f"relabel_configs of {', '.join(sources) or 'no label'}")
            continue
        field = "PRIORITY" if name == _PRIORITY else name.removeprefix(_JOURNAL).upper()
        anchored = escaped(f"^(?:{pattern})$")
        if action == "drop":
            rule.add("drop", {"field": field, "matches": anchored})
        elif action == "keep" and field not in kept:
            kept[field] = anchored
        elif action != "replace":
            rule.found.lost(settings.line, f"relabel_configs with the action {action}")
        elif name == _PRIORITY:
            if pattern != _DEFAULT or target != "level":
                rule.found.lost(settings.line, "relabel_configs of the priority. The label level has its name.")
                continue
            rule.label_fields[target] = "level"
            rule.known["PRIORITY"] = "PRIORITY"
            rule.found.changed(settings.line, "levels are called critical, error, warning, info and debug")
        elif pattern == _DEFAULT:
            rule.label_fields[target] = field
        elif pattern.count("(") == 1 and "(?" not in pattern:
            found = anchored.replace("^(?:", "^").removesuffix(")$") + "$"
            step = {"field": field, "format": "regex", "pattern": found.replace("(", f"(?P<{target}>", 1)}
            rule.parse.append(step)
            rule.label_fields[target] = rule.known[target] = target
        else:
            rule.found.lost(settings.line_of("regex"), f"relabel_configs of {name} with the expression {pattern}")
    if len(kept) == 1:
        (field, matches), *_ = kept.items()
        rule.add("keep", {"field": field, "matches": matches})
    elif kept:
        rule.add("keep", {"match": kept})
