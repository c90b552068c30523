"""Everything that an exporter author imports. This module is a stable interface; all other modules are private."""

from deckwatch.config.client_tls import client_context, tls_failure
from deckwatch.config.http_headers import check_headers
from deckwatch.config.metric_names import MetricLabel, MetricName
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
    Failed,
    Finding,
    FromEnvironment,
    Incomplete,
    KeyFigure,
    Malformed,
    Missing,
    NotAvailable,
    Results,
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
    "Failed",
    "Finding",
    "FromEnvironment",
    "Gauge",
    "Histogram",
    "Incomplete",
    "Info",
    "KeyFigure",
    "LabelBudget",
    "Malformed",
    "Metric",
    "MetricLabel",
    "MetricName",
    "MetricPattern",
    "MetricType",
    "Missing",
    "NotAvailable",
    "Pattern",
    "Refresh",
    "Results",
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
    "check_headers",
    "client_context",
    "describe",
    "parse_duration",
    "parse_size",
    "split_http_url",
    "tls_failure",
]
