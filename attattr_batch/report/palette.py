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
    "attattr_positive_sum": "#3B9AD4",
    "attattr_absolute_sum": "#7FBDE6",
    "attattr_head": "#00518F",
    "attattr_uniform": "#4C5FB8",
    "attattr_mean": "#8793D6",
    "attattr_idg": "#2E9FA3",
    "attattr_predicted": "#6FA8C9",
    "grad_attn": "#8A4FA3",
    "grad_attn_predicted": "#B68AC8",
    "taylor": "#E69F00",
    "taylor_normalised": "#56B4E9",
    "taylor_released": ORANGE,
    "accuracy_difference": "#009E73",
    "probability_difference": "#5A8F29",
    "attention": "#CC79A7",
    "random": GREY,
}
"""The colour of each criterion, in the order of every legend. Relatives are shades of one colour: beside each
other in a chart of points, where their names stand at the axis, they need not be told apart by it."""

IMPORTANCE: Final = {
    "attattr": "mean of max Attr (probability)",
    "attattr_positive_sum": "mean sum of positive Attr (probability)",
    "attattr_absolute_sum": "mean sum of |Attr| (probability)",
    "attattr_head": "mean of max Attr, the head alone scaled (probability)",
    "attattr_uniform": "mean of max Attr from uniform attention (probability)",
    "attattr_mean": "mean sum of Attr from mean contexts (probability)",
    "attattr_idg": "mean of max Attr weighed by dF/dalpha (probability squared)",
    "taylor": "mean Taylor score (nats)",
    "taylor_normalised": "mean Taylor score (share of its layer's norm)",
    "taylor_released": "mean Taylor score as released (share of its layer's norm)",
    "accuracy_difference": "accuracy lost without it (share)",
    "probability_difference": "gold probability lost without it",
    "attention": "mean confidence of attention",
    "random": "random number (control)",
}
"""What each criterion measures, with its unit."""
