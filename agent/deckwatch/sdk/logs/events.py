"""Events: what happens in the application, logged and counted in one call."""

import logging
from typing import Literal, get_args

from deckwatch.sdk.declared import APP_EVENTS
from deckwatch.sdk.library_metrics import counter_of

Category = Literal["business", "security", "audit", "http", "database"]
CATEGORIES = get_args(Category)
LOGGER = "deckwatch.events"

#: Attributes of log records; a field with such a name gets `_` appended.
_RESERVED = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "event", "category"})
_loggers = {category: logging.getLogger(f"{LOGGER}.{category}") for category in CATEGORIES}


def event(name: str, /, *, category: Category = "business", level: int = logging.INFO, **fields: object) -> None:
    """Log an event with its fields, and count it in `app_events_total{event, category}`.

    The logger is `deckwatch.events.CATEGORY`. An unknown category is `business`.
    """
    if category not in _loggers:
        category = "business"
    counter_of(APP_EVENTS).labels(name, category).inc()
    extra = {key + "_" if key in _RESERVED else key: value for key, value in fields.items()}
    _loggers[category].log(level, "%s", name, extra={"event": name, "category": category, **extra})
