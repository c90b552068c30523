"""The scrape period: a scraper is detected by its regular requests, and forgotten when they stop."""

from __future__ import annotations

import random

from deckwatch.collection.scrape_period import ScrapePeriod


def _pace(*clients: tuple[str, list[float]]) -> ScrapePeriod:
    period = ScrapePeriod()
    for at, client in sorted((at, client) for client, arrivals in clients for at in arrivals):
        period.arrival(client, at)
    return period


def test_no_scrape_is_expected_before_three_regular_gaps() -> None:
    assert _pace(("prometheus", [100, 115, 130])).next_scrape(131) is None


def test_the_next_scrape_is_expected_one_period_after_the_last() -> None:
    beat = _pace(("prometheus", [100, 115, 130, 145])).next_scrape(146)

    assert beat == (160, 15)


def test_a_missed_scrape_does_not_lose_the_phase() -> None:
    beat = _pace(("prometheus", [100, 115, 130, 145])).next_scrape(165)

    assert beat == (175, 15)


def test_a_scraper_that_stops_is_forgotten() -> None:
    assert _pace(("prometheus", [100, 115, 130, 145])).next_scrape(145 + 38) is None


def test_jitter_of_a_tenth_is_tolerated() -> None:
    draw = random.Random(1)
    arrivals = [100 + 15 * n + draw.uniform(-0.5, 0.5) for n in range(20)]
    beat = _pace(("prometheus", arrivals)).next_scrape(arrivals[-1] + 1)

    assert beat is not None
    assert abs(beat.at - (100 + 15 * 20)) < 1.0


def test_manual_requests_do_not_affect_the_period() -> None:
    period = _pace(("prometheus", [100, 115, 130, 145]), ("curl", [101, 102.7, 131, 144]))

    assert period.next_scrape(146) == (160, 15)


def test_collection_follows_the_more_frequent_of_two_scrapers() -> None:
    slow = [100.0 + 60 * n for n in range(5)]
    fast = [103.0 + 15 * n for n in range(17)]

    beat = _pace(("slow", slow), ("fast", fast)).next_scrape(344)

    assert beat == (358, 15)


def test_a_pair_of_equal_scrapers_keeps_the_phase_of_the_first() -> None:
    first = [100.0 + 15 * n for n in range(10)]
    second = [107.0 + 15 * n for n in range(10)]

    assert _pace(("a", first), ("b", second)).next_scrape(243) == (250, 15)


def test_memory_is_bounded_for_any_number_of_clients() -> None:
    period = ScrapePeriod()
    for n in range(10_000):
        period.arrival(f"client-{n}", float(n))

    assert len(period._clients) <= 16


def test_back_to_back_requests_do_not_count_as_a_scraper() -> None:
    assert _pace(("bench", [100 + 0.01 * n for n in range(50)])).next_scrape(101) is None
