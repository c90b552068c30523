"""Clock synchronization."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deckwatch.exporter import NotAvailable
from deckwatch_exporters.system.timex import Timex, TimexStruct, adjtimex

from .support import by_series, malformed

NANO = 0x2000
TIME_OK, TIME_ERROR = 0, 5


def collected(state: int, **figures: int) -> dict[str, float]:
    return by_series(Timex(lambda: (state, TimexStruct(**figures))).collect())


@pytest.mark.parametrize(("status", "seconds"), [(NANO, 1.5e-6), (0, 1.5e-3)])
def test_offset_and_jitter_are_in_the_unit_given_by_the_status(status: int, seconds: float) -> None:
    found = collected(TIME_OK, status=status, offset=1500, jitter=3000)

    assert found["node_timex_offset_seconds"] == pytest.approx(seconds)
    assert found["node_timex_pps_jitter_seconds"] == pytest.approx(2 * seconds)


def test_errors_and_ticks_are_in_microseconds_regardless_of_the_status() -> None:
    found = collected(TIME_OK, status=NANO, maxerror=16_000_000, esterror=250, tick=10_000)

    assert found["node_timex_maxerror_seconds"] == 16
    assert found["node_timex_estimated_error_seconds"] == pytest.approx(0.00025)
    assert found["node_timex_tick_seconds"] == pytest.approx(0.01)


def test_the_frequency_is_a_ratio_converted_from_ppm_with_a_16_bit_fraction() -> None:
    found = collected(TIME_OK, freq=-50 * 65536)  # 50 ppm slower

    assert found["node_timex_frequency_adjustment_ratio"] == pytest.approx(0.99995)


@pytest.mark.parametrize(("state", "synchronised"), [(TIME_OK, 1), (1, 1), (TIME_ERROR, 0)])
def test_only_the_error_state_means_that_the_clock_is_not_synchronized(state: int, synchronised: int) -> None:
    assert collected(state)["node_timex_sync_status"] == synchronised


#: The series of each field; `status` also gives the unit of others.
FIELDS = {
    "offset": "node_timex_offset_seconds",
    "freq": "node_timex_frequency_adjustment_ratio",
    "maxerror": "node_timex_maxerror_seconds",
    "esterror": "node_timex_estimated_error_seconds",
    "constant": "node_timex_loop_time_constant",
    "tick": "node_timex_tick_seconds",
    "ppsfreq": "node_timex_pps_frequency_hertz",
    "jitter": "node_timex_pps_jitter_seconds",
    "stabil": "node_timex_pps_stability_hertz",
    "jitcnt": "node_timex_pps_jitter_total",
    "calcnt": "node_timex_pps_calibration_total",
    "errcnt": "node_timex_pps_error_total",
    "stbcnt": "node_timex_pps_stability_exceeded_total",
}


@given(field=st.sampled_from(sorted(FIELDS)), value=st.integers(-(2**63), 2**63 - 1))
def test_any_value_of_a_field_affects_only_its_series(field: str, value: int) -> None:
    samples = list(Timex(lambda: (TIME_OK, TimexStruct(**{field: value}))).collect())

    assert {**by_series(samples), FIELDS[field]: 0} == {**collected(TIME_OK), FIELDS[field]: 0}
    is_wrong = field.endswith("cnt") and value < 0
    assert malformed(samples) == ([(f"adjtimex: {field}", str(value))] if is_wrong else [])
    assert (FIELDS[field] in by_series(samples)) is not is_wrong


def test_a_denied_system_call_is_unavailable_and_not_an_error() -> None:
    def refused() -> tuple[int, TimexStruct]:
        raise PermissionError(1, "Operation not permitted")

    with pytest.raises(NotAvailable):
        list(Timex(refused).collect())


def test_the_struct_layout_matches_the_kernel() -> None:
    try:
        state, figures = adjtimex()
    except PermissionError:
        pytest.skip("adjtimex is filtered here")

    assert state in range(6)
    # The kernel keeps a tick within 10 % of 1 s / USER_HZ; a wrong layout would give another value.
    assert 9_000 <= figures.tick <= 11_000
    assert figures.time.tv_sec > 1_700_000_000
