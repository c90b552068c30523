"""Watches the cache, once in each process."""

from django.apps import AppConfig

import deckwatch


class RecordsConfig(AppConfig):
    name = "records"

    def ready(self):
        from django.core.cache import cache

        # Keys are `record:1`, `job:...`, `validation:...`.
        deckwatch.watch_cache(cache, "default", category=lambda key: key.partition(":")[0])
