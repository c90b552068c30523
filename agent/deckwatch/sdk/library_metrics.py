"""Instruments of the metrics in `deckwatch.sdk.declared`, created when they are first used."""

import functools

from . import instruments
from .declared import Declared


@functools.cache
def counter_of(metric: Declared) -> instruments.Counter:
    return instruments.counter(metric.name, metric.help, metric.labels, max_series=metric.max_series)


@functools.cache
def gauge_of(metric: Declared) -> instruments.Gauge:
    return instruments.gauge(metric.name, metric.help, metric.labels, mode=metric.mode, max_series=metric.max_series)


@functools.cache
def histogram_of(metric: Declared) -> instruments.Histogram:
    buckets = metric.buckets or instruments.DEFAULT_BUCKETS
    return instruments.histogram(metric.name, metric.help, metric.labels, buckets=buckets, max_series=metric.max_series)
