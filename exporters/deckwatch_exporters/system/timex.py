"""How well the clock is synchronised, from adjtimex(2)."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING, Any

from deckwatch.exporter import Counter, Gauge, NotAvailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from deckwatch.exporter import Sample

OFFSET = Gauge("node_timex_offset_seconds", "Offset between the local clock and the reference, in seconds.")
FREQUENCY = Gauge("node_timex_frequency_adjustment_ratio", "How much faster the local clock is made, as a ratio.")
MAXERROR = Gauge("node_timex_maxerror_seconds", "Largest error, in seconds.")
ESTERROR = Gauge("node_timex_estimated_error_seconds", "Estimated error, in seconds.")
STATUS = Gauge("node_timex_status", "Bits of the clock's status.")
CONSTANT = Gauge("node_timex_loop_time_constant", "Time constant of the phase-locked loop.")
TICK = Gauge("node_timex_tick_seconds", "Time between two clock ticks, in seconds.")
PPS_FREQUENCY = Gauge("node_timex_pps_frequency_hertz", "Frequency of the pulse per second, in hertz.")
PPS_JITTER = Gauge("node_timex_pps_jitter_seconds", "Jitter of the pulse per second, in seconds.")
PPS_SHIFT = Gauge("node_timex_pps_shift_seconds", "Interval of the pulse per second, in seconds.")
PPS_STABILITY = Gauge("node_timex_pps_stability_hertz", "Stability of the pulse per second, in hertz.")
PPS_JITTER_TOTAL = Counter("node_timex_pps_jitter_total", "Times the jitter was too large.")
PPS_CALIBRATION = Counter("node_timex_pps_calibration_total", "Calibration intervals.")
PPS_ERROR = Counter("node_timex_pps_error_total", "Calibration errors.")
PPS_STABILITY_EXCEEDED = Counter("node_timex_pps_stability_exceeded_total", "Times the stability was too bad.")
TAI_OFFSET = Gauge("node_timex_tai_offset_seconds", "Offset of International Atomic Time, in seconds.")
SYNC_STATUS = Gauge("node_timex_sync_status", "Whether the clock is synchronised to a reliable server.")

_TIME_ERROR = 5  # what the call returns for a clock that is not synchronised
_STA_NANO = 0x2000
_PPM_SCALE = 1_000_000 * 65536.0  # frequencies are in parts per million, with a 16 bit fraction


# Loading it costs as much as the call does.
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
    """The clock's state and its figures. Raises OSError."""
    figures = TimexStruct()
    state = _LIBC.adjtimex(ctypes.byref(figures))
    if state < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return state, figures


class Timex:
    def __init__(self, read: Callable[[], tuple[int, Any]] = adjtimex) -> None:
        self._read = read

    def collect(self) -> Iterator[Sample]:
        try:
            state, figures = self._read()
        except PermissionError:
            # Containers' system call filters refuse it, to readers too.
            raise NotAvailable from None
        divisor = 1e9 if figures.status & _STA_NANO else 1e6
        yield SYNC_STATUS(state != _TIME_ERROR)
        yield OFFSET(figures.offset / divisor)
        yield FREQUENCY(1 + figures.freq / _PPM_SCALE)
        yield MAXERROR(figures.maxerror / 1e6)
        yield ESTERROR(figures.esterror / 1e6)
        yield STATUS(figures.status)
        yield CONSTANT(figures.constant)
        yield TICK(figures.tick / 1e6)
        yield PPS_FREQUENCY(figures.ppsfreq / _PPM_SCALE)
        yield PPS_JITTER(figures.jitter / divisor)
        yield PPS_SHIFT(figures.shift)
        yield PPS_STABILITY(figures.stabil / _PPM_SCALE)
        yield PPS_JITTER_TOTAL(figures.jitcnt)
        yield PPS_CALIBRATION(figures.calcnt)
        yield PPS_ERROR(figures.errcnt)
        yield PPS_STABILITY_EXCEEDED(figures.stbcnt)
        yield TAI_OFFSET(figures.tai)
