"""The exporters that come with Deckwatch. A new one touches two files: its module, and this table."""

from collections.abc import Mapping

#: The config key of each built-in exporter, and where its `Exporter` is (imported when the config names it).
EXPORTERS: Mapping[str, str] = {
    "apps": "deckwatch_exporters.apps:EXPORTER",
    "business": "deckwatch_exporters.business:EXPORTER",
    "http_probe": "deckwatch_exporters.http_probe:EXPORTER",
    "postgres": "deckwatch_exporters.postgres:EXPORTER",
    "queues": "deckwatch_exporters.queues:EXPORTER",
    "redis": "deckwatch_exporters.redis:EXPORTER",
    "system": "deckwatch_exporters.system:EXPORTER",
    "pgbouncer": "deckwatch_exporters.pgbouncer:EXPORTER",
}
