"""Synchronization of the clock, from adjtimex(2)."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Counter, Gauge, Malformed, NotAvailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from deckwatch.exporter import Samples

OFFSET = Gauge("node_timex_offset_seconds", "Offset between the local clock and the reference clock, in seconds.")
FREQUENCY = Gauge("node_timex_frequency_adjustment_ratio", "Frequency adjustment of the local clock, as a ratio.")
MAXERROR = Gauge("node_timex_maxerror_seconds", "Maximum error of the clock, in seconds.")
ESTERROR = Gauge("node_timex_estimated_error_seconds", "Estimated error of the clock, in seconds.")
STATUS = Gauge("node_timex_status", "Status of the clock, as a bit mask.")
CONSTANT = Gauge("node_timex_loop_time_constant", "Time constant of the phase-locked loop.")
TICK = Gauge("node_timex_tick_seconds", "Time between clock ticks, in seconds.")
PPS_FREQUENCY = Gauge("node_timex_pps_frequency_hertz", "Frequency of the pulse per second (PPS), in hertz.")
PPS_JITTER = Gauge("node_timex_pps_jitter_seconds", "Jitter of the pulse per second (PPS), in seconds.")
PPS_SHIFT = Gauge("node_timex_pps_shift_seconds", "Interval duration of the pulse per second (PPS), in seconds.")
PPS_STABILITY = Gauge(
    "node_timex_pps_stability_hertz",
    "Stability of the pulse per second (PPS): average of recent frequency changes, in hertz.",
)
PPS_JITTER_TOTAL = Counter("node_timex_pps_jitter_total", "Number of times the PPS jitter limit was exceeded.")
PPS_CALIBRATION = Counter("node_timex_pps_calibration_total", "Number of PPS calibration intervals.")
PPS_ERROR = Counter("node_timex_pps_error_total", "Number of PPS calibration errors.")
PPS_STABILITY_EXCEEDED = Counter(
    "node_timex_pps_stability_exceeded_total", "Number of times the PPS stability limit was exceeded."
)
TAI_OFFSET = Gauge("node_timex_tai_offset_seconds", "Offset of International Atomic Time (TAI) from UTC, in seconds.")
SYNC_STATUS = Gauge("node_timex_sync_status", "Whether the clock is synchronized to a reliable server (1) or not (0).")

#: By field of the structure.
_COUNTERS = {
    "jitcnt": PPS_JITTER_TOTAL,
    "calcnt": PPS_CALIBRATION,
    "errcnt": PPS_ERROR,
    "stbcnt": PPS_STABILITY_EXCEEDED,
}
_TIME_ERROR = 5  # returned if the clock is not synchronized
_STA_NANO = 0x2000
_PPM_SCALE = 1_000_000 * 65536.0  # frequencies are in parts per million with a 16-bit fraction

# Loading the library takes as long as the call.
_LIBC = ctypes.CDLL(None, use_errno=True)


class Timeval(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_long), ("tv_usec", ctypes.c_long))


class TimexStruct(ctypes.Structure):
    """`struct timex` (adjtimex(2))."""

    _fields_ = (
        ("modes", ctypes.c_int),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", Timeval),
        ("tick", ctypes.c_long),
        ("ppsfreq", ctypes.c_long),
        ("jitter", ctypes.c_long),
        ("shift", ctypes.c_int),
        ("stabil", ctypes.c_long),
        ("jitcnt", ctypes.c_long),
        ("calcnt", ctypes.c_long),
        ("errcnt", ctypes.c_long),
        ("stbcnt", ctypes.c_long),
        ("tai", ctypes.c_int),
        ("reserved", ctypes.c_int * 11),
    )


def adjtimex() -> tuple[int, Any]:
    """Get the state of the clock and its parameters. Raises OSError."""
    parameters = TimexStruct()
    state = _LIBC.adjtimex(ctypes.byref(parameters))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return state, parameters


class Timex:
    def __init__(self, read: Callable[[], tuple[int, Any]] = adjtimex) -> None:
        self._read = read

    def collect(self) -> Samples:
        try:
            state, clock = self._read()
        except PermissionError:
            # The system call filters of containers refuse the call even to readers.
            raise NotAvailable from None
        divisor = 1e9 if clock.status & _STA_NANO else 1e6
        yield SYNC_STATUS(state != _TIME_ERROR)
        yield OFFSET(clock.offset / divisor)
        yield FREQUENCY(1 + clock.freq / _PPM_SCALE)
        yield MAXERROR(clock.maxerror / 1e6)
        yield ESTERROR(clock.esterror / 1e6)
        yield STATUS(clock.status)
        yield CONSTANT(clock.constant)
        yield TICK(clock.tick / 1e6)
        yield PPS_FREQUENCY(clock.ppsfreq / _PPM_SCALE)
        yield PPS_JITTER(clock.jitter / divisor)
        yield PPS_SHIFT(clock.shift)
        yield PPS_STABILITY(clock.stabil / _PPM_SCALE)
        yield TAI_OFFSET(clock.tai)
        for name, metric in _COUNTERS.items():
            count = getattr(clock, name)
            yield metric(count) if count >= 0 else Malformed(f"adjtimex: {name}", str(count))
