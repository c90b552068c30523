"""Everything that an exporter author imports. This module is a stable interface; all other modules are private."""

from deckwatch.config.client_tls import client_context, tls_failure
from deckwatch.config.patterns import Pattern
from deckwatch.config.urls import split_http_url
from deckwatch.config.values import Duration, DurationOrZero, Secret, Settings, Size, parse_duration, parse_size
from deckwatch.metrics.declaration import (
    Counter,
    Exemplar,
    Extra,
    Gauge,
    Histogram,
    Info,
    Metric,
    MetricPattern,
    MetricType,
    Sample,
    Series,
    Summary,
    Untyped,
)

from .bounded_call import BoundedCall
from .contract import (
    Advice,
    Collector,
    Context,
    Exporter,
    Finding,
    FromEnvironment,
    KeyFigure,
    Malformed,
    Missing,
    NotAvailable,
    Samples,
    Scheduled,
    Target,
    Unreachable,
    describe,
)
from .label_budget import LabelBudget
from .refresh import Refresh

__all__ = [
    "Advice",
    "BoundedCall",
    "Collector",
    "Context",
    "Counter",
    "Duration",
    "DurationOrZero",
    "Exemplar",
    "Exporter",
    "Extra",
    "Finding",
    "FromEnvironment",
    "Gauge",
    "Histogram",
    "Info",
    "KeyFigure",
    "LabelBudget",
    "Malformed",
    "Metric",
    "MetricPattern",
    "MetricType",
    "Missing",
    "NotAvailable",
    "Pattern",
    "Refresh",
    "Sample",
    "Samples",
    "Scheduled",
    "Secret",
    "Series",
    "Settings",
    "Size",
    "Summary",
    "Target",
    "Unreachable",
    "Untyped",
    "client_context",
    "describe",
    "parse_duration",
    "parse_size",
    "split_http_url",
    "tls_failure",
]
