"""Colors that people with any kind of color blindness can distinguish. Panels also show states as words.

Okabe and Ito, Color Universal Design: https://jfly.uni-koeln.de/color/.
"""

from __future__ import annotations

SKY, ORANGE, GREEN, PINK = "#56B4E9", "#E69F00", "#009E73", "#CC79A7"
VERMILLION, BLUE, YELLOW, GREY = "#D55E00", "#0072B2", "#F0E442", "#999999"

#: One color for each query of a panel. The series of one query are shades of its color.
QUERIES = (SKY, ORANGE, GREEN, PINK, YELLOW, BLUE, GREY)
GOOD, BAD, LIMIT = SKY, VERMILLION, VERMILLION

#: Colors of series by their legend.
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
