"""A stand-in with replies that a test changes, and what a new target collects from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from .stand_in import Answer, StandIn
from .support import Target

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

#: Texts that replace a value.
ODD = (
    "", " ", "(null)", "-5", "18446744073709551617", "18446744073632349612", "1e999", "nan", "-nan", "inf", "9" * 400,
    "1_0", "0x10", "\ufffd", "\x00", "=", ",", ":", "keys=,expires=x", "calls=(null),usec=", "count=-1", "p50=,p99=?",
)  # fmt: skip
EVERY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Server:
    """A stand-in with changeable replies, and what a new target collects from it."""

    def __init__(self, answers: Mapping[str, Answer], **target: Any) -> None:
        self.answers = dict(answers)
        self._target = target
        self._stand_in = StandIn(self.answers)
        self.base = self.collect({})

    def collect(self, changed: Mapping[str, Answer]) -> dict[str, float]:
        """Return the values with these replies instead, which never fail the run."""
        return self.collect_all(changed)[0]

    def collect_all(self, changed: Mapping[str, Answer]) -> tuple[dict[str, float], list[str]]:
        self._stand_in.answers = {**self.answers, **changed}
        with Target(self._stand_in.url, **self._target) as target:
            collected = target.collect()
        assert not collected.errors
        values = collected.values
        assert values["redis_up"] == 1
        # These depend on the agent's runs and clock.
        own = (
            "redis_exporter_",
            "redis_last_key_groups_scrape",
            "redis_start_time_seconds",
            "redis_key_scan_duration",
            "redis_command_refused",
        )
        return {name: value for name, value in values.items() if not name.startswith(own)}, collected.malformed

    def assert_served(self, found: Mapping[str, float], but: Callable[[str], bool]) -> None:
        """Assert that all series have their values, except those that may be lost."""
        assert {name: value for name, value in self.base.items() if found.get(name) != value and not but(name)} == {}

    def close(self) -> None:
        self._stand_in.close()


def places(answer: Answer) -> Iterator[tuple[Any, ...]]:
    """Yield the path of indexes to each value in a reply."""
    yield ()
    items: Any = answer.items() if isinstance(answer, dict) else enumerate(answer) if isinstance(answer, list) else ()
    for index, part in items:
        yield from ((index, *place) for place in places(part))


def replaced(answer: Any, place: tuple[Any, ...], odd: Answer) -> Answer:
    if not place:
        return odd
    changed = dict(answer) if isinstance(answer, dict) else list(answer)
    changed[place[0]] = replaced(answer[place[0]], place[1:], odd)
    return changed


ODD_ANSWERS: st.SearchStrategy[Answer] = st.sampled_from(
    [*ODD, b"\xff", None, -5, 2**63 - 1, [], [None], [[]], {}, {"a": "b"}, ["x"] * 5]
)
