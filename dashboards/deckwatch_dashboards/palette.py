"""Colours that people with any kind of colour-blindness tell apart.

Okabe and Ito, Color Universal Design: https://jfly.uni-koeln.de/color/. State is never told by colour alone.
"""

from __future__ import annotations

SKY, ORANGE, GREEN, PINK = "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
VERMILLION, BLUE, YELLOW, GREY = "#D55E00", "#0072B2", "#F0E442", "#999999"

#: Of a panel's queries, in their order. Where a query has several series they are shades of its colour.
QUERIES = (SKY, ORANGE, GREEN, PINK, YELLOW, BLUE, GREY)
GOOD, WARNING, BAD, LIMIT = SKY, ORANGE, VERMILLION, VERMILLION

#: Series that are known by name.
BY_NAME = {
    "critical": VERMILLION,
    "error": VERMILLION,
    "warning": ORANGE,
    "info": SKY,
    "debug": GREY,
    "user": SKY,
    "system": ORANGE,
    "iowait": PINK,
    "irq": GREY,
    "softirq": GREY,
    "nice": BLUE,
    "steal": YELLOW,
}
