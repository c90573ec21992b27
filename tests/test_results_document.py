"""docs/results.md: what its prose says are the numbers of its tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "results.md").read_text(encoding="utf-8")

Row = dict[str, str]
TABLES: list[list[Row]] = []
for _block in re.findall(r"<!-- sql: .*? -->\n\n(.*?)\n\n<!-- end -->", DOCUMENT, re.DOTALL):
    _head, _, *_lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in _block.splitlines()]
    TABLES.append([dict(zip(_head, line, strict=True)) for line in _lines])
RUNS, REMOVED, AREAS, PRUNED, ALIKE, DISTANCES, TRIGGERS, PAIRS = TABLES


def value(table: list[Row], column: str, **key: str) -> float:
    """The number in the row of this key."""
    (row,) = (row for row in table if key.items() <= row.items())
    return float(row[column])


def removed(run: str, column: str, criterion: str = "attattr") -> float:
    return value(REMOVED, column, run=run, criterion=criterion)


def lost(run: str) -> str:
    """Points that the two heads of each layer with the largest attribution cost."""
    return f"{100 * (removed(run, 'clean') - removed(run, 'top 2 removed')):.0f}"


def distance(layer: int) -> str:
    return f"{value(DISTANCES, 'mean distance', run='sst2', layer=str(layer)):.1f}"


def least(column: str, **key: str) -> Row:
    """The row of this key in which a trigger leaves least."""
    return min((row for row in TRIGGERS if key.items() <= row.items()), key=lambda row: float(row[column]))


def best() -> str:
    row = least("with pattern", run="mnli", ranking="drop", **{"class": "entailment"})
    left, random = 100 * float(row["with pattern"]), 100 * float(row["with random tokens"])
    return f"`{row['pattern']}` leaves {left:.1f} % correct where random words leave {random:.0f} %"


def best_left() -> str:
    row = least("with pattern", run="mnli", ranking="drop", **{"class": "entailment"})
    return f"({100 * float(row['with pattern']):.1f} % of MNLI entailment left"


def nothing() -> str:
    drop = {"run": "mnli", "ranking": "drop", "class": "entailment", "pattern": "nothing"}
    push = {**drop, "ranking": "push", "class": "contradiction"}
    return (
        f"`nothing` takes correct entailment from {value(TRIGGERS, 'clean', **drop):.2f} to"
        f" {value(TRIGGERS, 'with pattern', **drop):.2f}, and answers"
        f" {100 * value(TRIGGERS, 'with pattern', **push):.0f} % of the entailment and neutral rows as"
        f" contradiction ({value(TRIGGERS, 'clean', **push):.2f} without,"
        f" {value(TRIGGERS, 'with random tokens', **push):.2f} with random words)"
    )


def beyond(run: str) -> str:
    found = [100 * float(row["beyond control"]) for row in TRIGGERS if row["run"] == run]
    return f"{min(found):.0f} to {max(found):.0f} points"


SENTENCES: dict[str, Callable[[], str]] = {
    "heads removed": lambda: f"costs SST-2 {lost('sst2')} points, RTE {lost('rte')} and MNLI {lost('mnli')}",
    "attention's heads": lambda: "({:.3f} against {:.3f})".format(
        *(removed("sst2", "top 2 removed", criterion) for criterion in ("attattr", "attention"))
    ),
    "heads kept": lambda: "SST-2 {:.2f} (above the clean {:.2f}); RTE {:.2f}, MNLI {:.2f}".format(
        removed("sst2", "only top 2 kept"),
        removed("sst2", "clean"),
        *(removed(run, "only top 2 kept") for run in ("rte", "mnli")),
    ),
    "heads pruned": lambda: (
        f"At 10 % of the heads kept MNLI is at {value(PRUNED, '90 %', run='mnli', criterion='attattr'):.2f}"
    ),
    "heads shared": lambda: (
        "correlate at {:.2f}; with SST-2, a task of another kind, at {:.2f} (MNLI) and {:.2f} (RTE)".format(
            *(
                value(ALIKE, "pearson", criterion="attattr", runs=runs)
                for runs in ("mnli - rte", "mnli - sst2", "rte - sst2")
            )
        )
    ),
    "distances": lambda: (
        f"grows from {distance(1)} in layer 1 to {distance(3)} in layer 3 and is {distance(4)} in layer 4,"
        f" but layer 0 is at {distance(0)}"
    ),
    "triggers of sst2": lambda: f"by {beyond('sst2')}",
    "the best trigger": best,
    "the best trigger in the summary": best_left,
    "a negation": nothing,
    "pairs of rte": lambda: "its pairs occur {} times at most".format(
        {6: "six"}[max(int(row["support"]) for row in PAIRS if row["run"] == "rte")]
    ),
}


@pytest.mark.parametrize("subject", SENTENCES)
def test_the_prose_says_what_the_tables_hold(subject: str) -> None:
    assert SENTENCES[subject]() in DOCUMENT
