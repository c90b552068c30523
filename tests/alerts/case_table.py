"""The table in alerts/tests/README.md: each alert with its cases."""

from __future__ import annotations

from collections import defaultdict

import yaml

from .rule_files import ALERTS, TEST_FILES, alerts

README = ALERTS / "tests" / "README.md"
_HEADER = "| alert | fires | stays quiet |\n|---|---|---|\n"


def cases() -> dict[str, list[str]]:
    """The names of the cases of each alert."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in TEST_FILES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            found[case["alert_rule_test"][0]["alertname"]].append(case["name"])
    return found


def table() -> str:
    named = cases()
    return _HEADER + "".join(
        f"| {rule.name} | {_joined(rule.name, named[rule.name], fires=True)} "
        f"| {_joined(rule.name, named[rule.name], fires=False)} |\n"
        for rule in sorted(alerts(), key=lambda rule: rule.name)
    )


def _joined(alert: str, names: list[str], *, fires: bool) -> str:
    circumstances = [
        name.removeprefix(alert).removesuffix(" fires").replace(" stays quiet", "").strip() or "plainly"
        for name in names
        if name.endswith(" fires") is fires
    ]
    return "; ".join(circumstances)


def with_table(text: str) -> str:
    """A text with its table replaced by one of today's cases."""
    before, _, _ = text.partition(_HEADER)
    return before + table()
