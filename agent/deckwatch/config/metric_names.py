"""The names of metrics that the config declares, and of their labels.

A setting of the type `MetricName` declares a metric. Its model may have a `type`, such as `histogram`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .exporters import Exporters
    from .problems import Path
    from .source import Source

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*", re.ASCII)
LABEL = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII)
RESERVED_NAMES = ("deckwatch_", "log_messages_", "node_", "process_", "python_")
RESERVED_LABELS = ("le", "target", "job", "instance")
_HISTOGRAM_SUFFIXES = ("", "_bucket", "_sum", "_count")


def _checked_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("a metric name: letters, digits, _ and :, not starting with a digit")
    if name.startswith(RESERVED_NAMES):
        raise ValueError(f"a name that does not start with {', '.join(RESERVED_NAMES)}: Deckwatch uses these")
    return name


def _checked_label(label: str) -> str:
    if not LABEL.fullmatch(label):
        raise ValueError("a label name: letters, digits and _, not starting with a digit or __")
    if label in RESERVED_LABELS:
        raise ValueError(f"another label name: {label} is set by Deckwatch or Prometheus")
    return label


_CHECK = AfterValidator(_checked_name)

MetricName = Annotated[str, _CHECK]
MetricLabel = Annotated[str, AfterValidator(_checked_label)]


def refuse_built_in_names(source: Source, settings: BaseModel, path: Path, exporters: Exporters) -> None:
    """Add a problem for each metric in the settings at `path` that has the name of an exporter's metric."""
    for where, model, name in _declared(settings, path):
        suffixes = _HISTOGRAM_SUFFIXES if getattr(model, "type", "") == "histogram" else ("",)
        for exposed in (name + suffix for suffix in suffixes):
            if exporter := exporters.exporter_of(exposed):
                source.reject(where, name, f"another name: {exposed} is a built-in metric of the {exporter} exporter")
                break


def _declared(settings: BaseModel, path: Path) -> Iterator[tuple[Path, BaseModel, str]]:
    """The metrics that settings declare: where their names are in the file, their models, and the names."""
    for field, info in type(settings).model_fields.items():
        value, where = getattr(settings, field), (*path, info.alias or field)
        if _CHECK in info.metadata:
            yield where, settings, value
        else:
            yield from _declared_in(value, where)


def _declared_in(value: Any, path: Path) -> Iterator[tuple[Path, BaseModel, str]]:
    if isinstance(value, BaseModel):
        yield from _declared(value, path)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _declared_in(item, (*path, index))
