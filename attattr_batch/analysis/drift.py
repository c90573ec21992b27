"""How far a run's results are from an earlier run's."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import text

from attattr_batch.store.connection import Store


@dataclass(frozen=True)
class Change:
    """What changed from one run to another.

    Attributes:
        rank_correlation: Spearman correlation over all heads of the mean `attr_max` (ties share their mean
            rank); None where all heads of a run are alike.
        accuracy_drop: Accuracy before less accuracy now; None without labels.
    """

    rank_correlation: float | None
    accuracy_drop: float | None


# Importance is for the gold class, or for the predicted one where a run has no other.
_COMPARE = text(
    """
WITH heads AS (
    SELECT h.run_id, h.layer, h.head, h.attr_max FROM head_summary AS h JOIN runs AS r USING (run_id)
    WHERE run_id IN (:before, :now) AND h.target = if(r.target = 'predicted', 'predicted', 'gold')
),
ranked AS (
    SELECT run_id, layer, head, rank() OVER (PARTITION BY run_id ORDER BY attr_max)
        + (count(*) OVER (PARTITION BY run_id, attr_max) - 1) / 2.0 AS place
    FROM heads
),
paired AS (
    SELECT corr(a.place, b.place) AS correlation
    FROM ranked AS a JOIN ranked AS b USING (layer, head)
    WHERE a.run_id = :before AND b.run_id = :now
)
SELECT
    (SELECT if(isfinite(correlation), correlation, NULL) FROM paired) AS correlation,
    a.accuracy - b.accuracy AS drop
FROM run_summary AS a, run_summary AS b, runs AS ra, runs AS rb
WHERE a.run_id = :before AND b.run_id = :now AND ra.run_id = :before AND rb.run_id = :now
    AND (ra.n_layers, ra.n_heads, ra.target) = (rb.n_layers, rb.n_heads, rb.target)
"""
)


def compare_runs(store: Store, before: int, now: int) -> Change | None:
    """Compares two runs by id; None where one is gone, or they differ in layers, heads or target.

    Raises:
        StoreError: the store cannot be read.
    """
    with store.read() as connection:
        row = connection.execute(_COMPARE, {"before": before, "now": now}).one_or_none()
    return None if row is None else Change(row.correlation, row.drop)
