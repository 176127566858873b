"""Rows of the table: plain functions of a row of logits."""

from __future__ import annotations

from .row import (
    plain,
)

LOGITS = {
    "block_tops": plain("logits.likelihood", "row", "count", "tops", "tail", "found"),
    "exponential_sum": plain("logits.likelihood", "row", "count", "top_bits", "tail", "found"),
    "weigh": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "bound_bits", "last", "above_bits"),
        *("weights", "sums", "tail", "found"),
    ),
    "typicality": plain(
        "logits.likelihood",
        *("row", "count", "top_bits", "factor_bits", "mean_bits", "bound_bits", "last", "above_bits"),
        *("typical", "tops", "tail"),
    ),
    "blank": plain(
        "logits.likelihood",
        *("row", "logits", "count", "bound_bits", "last", "above_bits"),
        *("weights", "blanked", "tops", "sums", "tail", "found"),
    ),
    "spread": plain("logits.likelihood", "row", "count", "centre_bits", "tail", "found"),
    "adapt": plain("logits.likelihood", "weights", "count", "share_bits", "target_bits", "row"),
    "descend": plain(
        "logits.selection",
        *("row", "weights", "count", "top_bits", "scale_bits", "steps", "histogram", "tail"),
    ),
    "at_step": plain(
        "logits.selection",
        *("row", "count", "top_bits", "scale_bits", "step", "steps", "places", "tail", "found"),
    ),
    "collect": plain(
        "logits.selection",
        *("row", "logits", "ids", "count", "bound_bits", "last", "above_bits", "tops"),
        *("kept_logits", "kept_ids", "found"),
    ),
    "allowed": plain("logits.selection", "mask", "logits", "count", "kept_logits", "kept_ids", "found"),
    "tally": plain("logits.repetition", "text", "length", "counts", "ids", "times", "found"),
    "penalize": plain("logits.repetition", "logits", "places", "times", "count", "penalties"),
    "repeats": plain("logits.repetition", "text", "length", "lengths"),
}
