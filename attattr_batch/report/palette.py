"""Colours and units of the criteria of head importance, for charts, pages and notebooks.

Imports no altair: a notebook that shows one attribution draws no chart.
"""

from __future__ import annotations

from typing import Final

# Okabe and Ito's palette, which the colour-blind tell apart, without the two colours that are hard to see on
# white or on black.
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREY: Final = "#8C8C8C"

CRITERION_COLOURS: Final = {
    "attattr": BLUE,
    "taylor": "#E69F00",
    "taylor_normalised": "#56B4E9",
    "taylor_released": ORANGE,
    "accuracy_difference": "#009E73",
    "attention": "#CC79A7",
    "random": GREY,
}
"""The colour of each criterion, in the order of every legend."""

IMPORTANCE: Final = {
    "attattr": "mean of max Attr (probability)",
    "taylor": "mean Taylor score (nats)",
    "taylor_normalised": "mean Taylor score (share of its layer's norm)",
    "taylor_released": "mean Taylor score as released (share of its layer's norm)",
    "accuracy_difference": "accuracy lost without it (share)",
    "attention": "mean confidence of attention",
    "random": "random number (control)",
}
"""What each criterion measures, with its unit."""
