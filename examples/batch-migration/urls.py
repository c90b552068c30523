"""The pages: health of database, cache and pipeline, and statistics of the cache."""

from django.core.cache import cache
from django.db import connection
from django.http import JsonResponse
from django.urls import include, path

import deckwatch
from deckwatch import health

reads = deckwatch.counter("statistics_read_total", "Times that the statistics were read.")


def _database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _cache():
    cache.set("job:health", 1, 10)
    return cache.get("job:health") == 1


def _pipeline():
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM records")
        return cursor.fetchone()[0] > 0


health.register("database", _database)
health.register("cache", _cache, critical=False)
health.register("pipeline", _pipeline)


def statistics(_request):
    reads.inc()
    info = cache._cache.get_client().info("stats")
    hits, misses = info["keyspace_hits"], info["keyspace_misses"]
    return JsonResponse({"hits": hits, "misses": misses, "hit_ratio": hits / ((hits + misses) or 1)})


urlpatterns = [path("cache/statistics", statistics), path("", include(health.urlpatterns))]
