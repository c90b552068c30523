"""The target label, which is added to the lines of a family when several targets are served together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.metrics.declaration import Exemplar, Extra, Gauge, Histogram, Sample
from deckwatch.metrics.encoding import Encoder, Layouts, texts_with_target

UP = Gauge("x_up", "Up.")
KEYS = Gauge("x_keys", "Keys.", ["db"])
OF_TARGETS = Gauge("x_of_targets", "Other targets.", ["target"])
OF_EXPORTED = Gauge("x_of_exported", "Other targets of a federation.", ["exported_target"])
LATENCY = Histogram("x_seconds", "Latency.", ["db"])
TOTAL_LATENCY = Histogram("x_all_seconds", "Latency of all.")

LABEL_VALUES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(["\nx_keys{", "\nx_keys ", '{target="a",', 'exported_target="b"', '"} ', "\u2028x_keys{", "\r"]),
)


def _labelled(samples: list[Sample], target: str, openmetrics: bool = False) -> str:
    return "".join(texts_with_target(Encoder().families(samples), target, openmetrics))


def _expected(samples: list[Sample], target: str) -> str:
    return "".join(f"{sample.series.text_for(target)}{sample.value}\n" for sample in samples)


def test_the_target_label_comes_first_on_every_line() -> None:
    samples = [UP(1), KEYS(2, db="0"), KEYS(3, db="1")]

    assert _labelled(samples, "cache") == (
        'x_up{target="cache"} 1\nx_keys{target="cache",db="0"} 2\nx_keys{target="cache",db="1"} 3\n'
    )


@given(st.lists(LABEL_VALUES, min_size=1, max_size=5, unique=True), LABEL_VALUES)
def test_any_label_values_and_targets_are_kept(dbs: list[str], target: str) -> None:
    samples = [UP(1), *(KEYS(number, db=db) for number, db in enumerate(dbs))]

    assert _labelled(samples, target or "a") == _expected(samples, target or "a")


def test_every_line_of_a_histogram_has_the_label() -> None:
    samples = [*LATENCY.cumulative({0.1: 1, 1.0: 2}, 3, db="0"), *TOTAL_LATENCY.cumulative({0.1: 1, 1.0: 2}, 3)]

    assert _labelled(samples, "a") == _expected(samples, "a")


@pytest.mark.parametrize("other", ["a", "b", 'exported_target="a"'])
def test_a_target_label_of_the_exporter_is_renamed(other: str) -> None:
    samples = [OF_TARGETS(1, target=other), OF_TARGETS(2, target="\u2028"), OF_EXPORTED(3, exported_target=other)]

    assert _labelled(samples, "a") == _expected(samples, "a")


def test_an_exemplar_keeps_a_label_that_looks_like_the_target() -> None:
    sample = KEYS(1, db="0")._replace(extra=Extra(exemplar=Exemplar((("target", "a"),), 1.0)))

    assert _labelled([sample], "a", openmetrics=True) == 'x_keys{target="a",db="0"} 1 # {target="a"} 1.0\n'


def test_the_encoders_of_similar_targets_share_what_their_series_have_in_common() -> None:
    layouts = Layouts()
    samples = [UP(1), KEYS(2, db="0")]

    encoders = Encoder(layouts), Encoder(layouts)

    first, second = encoders[0].families(samples), encoders[1].families([UP(3), KEYS(4, db="0")])

    assert [it.series for it in first] == [it.series for it in second]
    assert all(one.series is other.series for one, other in zip(first, second, strict=True))
    assert [it.values for it in second] == [(3,), (4,)]
