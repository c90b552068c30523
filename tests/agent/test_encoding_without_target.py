"""The lines of one target alone, made from its lines with the target label."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.metrics.declaration import Exemplar, Extra, Gauge, Sample
from deckwatch.metrics.encoding import Encoder, without_target

UP = Gauge("x_up", "Up.")
KEYS = Gauge("x_keys", "Keys.", ["db"])
OF_TARGETS = Gauge("x_of_targets", "Other targets.", ["target"])
OF_EXPORTED = Gauge("x_of_exported", "Other targets of a federation.", ["exported_target"])

LABEL_VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(['{target="a",', '{target="a"} 1', '\\{target="a"} ', 'exported_target="b"', '"} ']),
)


def _both(samples: list[Sample], target: str) -> None:
    alone = without_target(Encoder(target).families(samples), target)

    assert [tuple(it) for it in alone] == [tuple(it) for it in Encoder().families(samples)]


@given(st.lists(LABEL_VALUES, min_size=1, max_size=5, unique=True), LABEL_VALUES)
def test_removing_the_label_gives_the_lines_of_an_encoder_without_a_target(dbs: list[str], target: str) -> None:
    _both([UP(1), *(KEYS(number, db=db) for number, db in enumerate(dbs))], target or "a")


@pytest.mark.parametrize("other", ["a", "b", 'exported_target="a"'])
def test_a_target_label_of_the_exporter_keeps_its_name(other: str) -> None:
    _both([OF_TARGETS(1, target=other), OF_EXPORTED(2, exported_target=other)], "a")


def test_an_exemplar_keeps_a_label_that_looks_like_the_target() -> None:
    extra = Extra(exemplar=Exemplar((("target", "a"),), 1.0))

    _both([KEYS(1, db="0")._replace(extra=extra)], "a")
