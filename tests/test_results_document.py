"""docs/results.md: what its prose says are the numbers of its tables."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

DOCUMENT = (Path(__file__).resolve().parents[1] / "docs" / "results.md").read_text(encoding="utf-8")

Row = dict[str, str]
TABLES: list[list[Row]] = []
for _block in re.findall(r"<!-- sql of \w+: .*? -->\n\n(.*?)\n\n<!-- end -->", DOCUMENT, re.DOTALL):
    _head, _, *_lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in _block.splitlines()]
    TABLES.append([dict(zip(_head, line, strict=True)) for line in _lines])
# One name for each table, in their order.
(RUNS, REMOVED, KEPT, AREAS, BALANCED, PRUNED, CPR, OVER, CMD, AGREE, MEAN_CPR, MEAN_REMOVED, PATHS, SHARED,
 ALIKE, SETTLED, DISTANCES, TRIGGERS, SOURCES, PAIRS, RULES) = TABLES  # fmt: skip
TASKS = ("mnli", "mrpc-a", "rte-a", "sst2-a")
NAMES = ("MNLI", "MRPC", "RTE", "SST-2")


def text(table: list[Row], column: str, **key: str) -> str:
    """The cell in the row of this key."""
    (row,) = (row for row in table if key.items() <= row.items())
    return row[column]


def value(table: list[Row], column: str, **key: str) -> float:
    """The number that the cell begins with."""
    return float(text(table, column, **key).split(" ", 1)[0])


def interval(table: list[Row], column: str, **key: str) -> tuple[float, float]:
    """The two numbers in brackets."""
    found = re.search(r"\(([-+.\d]+) to ([-+.\d]+)\)", text(table, column, **key))
    assert found
    return float(found[1]), float(found[2])


def of_tasks(table: list[Row], criterion: str, form: str = "{:.2f}") -> str:
    """The criterion's numbers on the four tasks: `MNLI 0.27, MRPC 0.40, RTE 0.20 and SST-2 0.74`."""
    found = [form.format(value(table, run, criterion=criterion)) for run in TASKS]
    return "MNLI {}, MRPC {}, RTE {} and SST-2 {}".format(*found)


def differences(run: str) -> dict[str, tuple[float, float]]:
    """Interval of the CPR of each criterion less that of attattr, where it was computed for the run."""
    found = [row["criterion"] for row in OVER if row[run]]
    return {criterion: interval(OVER, run, criterion=criterion) for criterion in found}


def better(run: str) -> list[str]:
    """Criteria whose CPR is above attattr's for certain: the interval of the difference is above zero."""
    return [criterion for criterion, (low, _) in differences(run).items() if low > 0]


def worse(run: str) -> list[str]:
    return [criterion for criterion, (_, high) in differences(run).items() if high < 0]


def likeness(criterion: str, compared: str) -> float:
    return value(SHARED, "pearson", criterion=criterion, compared=compared)


SENTENCES: dict[str, Callable[[], str]] = {}


def sentence(function: Callable[[], str]) -> Callable[[], str]:
    """A sentence of the document, computed from its tables."""
    SENTENCES[function.__name__] = function
    return function


@sentence
def removed() -> str:
    return (
        f"leaves {of_tasks(REMOVED, 'attattr')}; the whole models have {of_tasks(REMOVED, '(whole model)')}"
    )


@sentence
def removed_by_attention() -> str:
    return f"the most confident attention leaves {of_tasks(REMOVED, 'attention')}"


@sentence
def removed_by_rivals() -> str:
    rivals = of_tasks(REMOVED, "grad_attn"), of_tasks(REMOVED, "attattr_positive_sum")
    return "gradient times attention leaves {}, and the positive sum of attributions {}".format(*rivals)


@sentence
def removed_without_the_label() -> str:
    return f"of the model's own answer `attattr_predicted` leaves {of_tasks(REMOVED, 'attattr_predicted')}"


@sentence
def kept() -> str:
    return f"keeps {of_tasks(KEPT, 'attattr')}"


@sentence
def kept_in_the_summary() -> str:
    shares = [
        100 * value(KEPT, run, criterion="attattr") / value(REMOVED, run, criterion="(whole model)")
        for run in TASKS
    ]
    return "MNLI {:.0f}, MRPC {:.0f}, RTE {:.0f} and SST-2 {:.0f} % of the whole model's".format(*shares)


@sentence
def above_random() -> str:
    found = ["{:+.2f} to {:+.2f}".format(*interval(AREAS, run, criterion="attattr")) for run in TASKS]
    return "MNLI by {}, MRPC by {}, RTE by {} and SST-2 by {}".format(*found)


@sentence
def attention_against_random() -> str:
    found = ["{:+.2f} to {:+.2f}".format(*interval(AREAS, run, criterion="attention")) for run in TASKS]
    return "attention's lies {} (MNLI), {} (MRPC), {} (RTE) and {} (SST-2) from it".format(*found)


@sentence
def pruned_to_a_tenth() -> str:
    shares = [value(PRUNED, "90 %", run=run, criterion="attattr") for run in TASKS]
    return "With a tenth of the heads, MNLI is at {:.2f}, MRPC {:.2f}, RTE {:.2f} and SST-2 {:.2f}".format(
        *shares
    )


@sentence
def faithful() -> str:
    def names(found: list[str]) -> str:
        return ", ".join(f"`{one}`" for one in found) or "none"

    return "; ".join(f"{name} {names(better(run))}" for run, name in zip(TASKS, NAMES, strict=True))


@sentence
def less_faithful() -> str:
    counts = [f"{len(worse(run))} of {len(differences(run))}" for run in TASKS]
    return "{} on MNLI, {} on MRPC, {} on RTE and {} on SST-2".format(*counts)


@sentence
def heads_alone() -> str:
    rows = [row for row in PATHS if row["criterion"] == "attattr_head"]
    assert [row["run"] for row in rows] == ["mnli", "sst2-a"]
    ranks = [float(row["Spearman with attattr"]) for row in rows]
    over = [text(OVER, row["run"], criterion="attattr_head") for row in rows]
    return "{:.2f} on MNLI and {:.2f} on SST-2, and CPR differs by {} and {}".format(*ranks, *over)


@sentence
def shared() -> str:
    found = [likeness("attattr", compared) for compared in ("halves", "checkpoint", "data", "permuted")]
    return (
        "two halves of one run correlate at {:.2f}, two seeds of one task at {:.2f}, two tasks at {:.2f},"
        " and two tasks with heads permuted within their layers at {:.2f}".format(*found)
    )


@sentence
def shared_between_like_tasks() -> str:
    tasks = [row for row in ALIKE if row["what differs"] == "data"]
    like = [float(row["pearson"]) for row in tasks if "sst2" not in row["runs"]]
    unlike = [float(row["pearson"]) for row in tasks if "sst2" in row["runs"]]
    return (
        f"Among MNLI, MRPC and RTE, tasks of two texts, the correlation is {min(like):.2f} to"
        f" {max(like):.2f}; with SST-2 it is {min(unlike):.2f} to {max(unlike):.2f}"
    )


@sentence
def shared_summary() -> str:
    return f"a correlation of {likeness('attattr', 'data'):.2f}"


@sentence
def shared_seeds() -> str:
    return f"{likeness('attattr', 'checkpoint'):.2f}"


@sentence
def mean_ablation() -> str:
    zero, mean = (
        {row["criterion"]: row["sst2-a"] for row in table if row["sst2-a"]}
        for table in (REMOVED, MEAN_REMOVED)
    )
    return (
        f"{mean['attattr']} without the top two heads by `attattr` (zeros: {zero['attattr']}) and"
        f" {mean['attention']} by `attention` ({zero['attention']})"
    )


@sentence
def shared_by_attention() -> str:
    return "`attention` correlates at {:.2f} between seeds and {:.2f} between tasks".format(
        likeness("attention", "checkpoint"), likeness("attention", "data")
    )


@sentence
def settled() -> str:
    found = [text(SETTLED, "certain heads of ten", run=run, criterion="attattr") for run in TASKS]
    return "MNLI {}, MRPC {}, RTE {} and SST-2 {} of ten".format(*found)


@sentence
def distances() -> str:
    def at(run: str, layer: int) -> float:
        return 100 * value(DISTANCES, "within one text", run=run, layer=str(layer))

    found = [number for run in TASKS[:3] for number in (at(run, 0), at(run, 2))]
    return (
        "from {:.0f} % in layer 0 to {:.0f} % in layer 2 on MNLI, {:.0f} to {:.0f} % on MRPC,"
        " {:.0f} to {:.0f} % on RTE".format(*found)
    )


@sentence
def triggers() -> str:
    found = [
        (
            100 * value(SOURCES, "mean beyond twins", run=run, source="attribution"),
            100 * value(SOURCES, "mean beyond twins", run=run, source="attention"),
        )
        for run in TASKS
    ]
    return (
        "MNLI {:.0f} points against {:.0f}, MRPC {:.0f} against {:.0f}, RTE {:.0f} against {:.0f},"
        " SST-2 {:.0f} against {:.0f}".format(*(number for pair in found for number in pair))
    )


@sentence
def standing() -> str:
    found = {"run": "mnli", "source": "attribution"}
    stand = text(SOURCES, "with adjusted p at most 0.1", **found)
    return f"{stand} of {text(SOURCES, 'effects', **found)}"


@sentence
def strongest() -> str:
    rows = [row for row in TRIGGERS if row["ranking"] == "drop" and row["source"] == "attribution"]
    one = max(rows, key=lambda row: float(row["beyond twins"]))
    return (
        f"`{one['pattern']}`, which leaves {one['with pattern']} of the {one['class']} rows correct where its"
        f" twins leave {one['with random twins']}"
    )


def of_rules(column: str) -> list[float]:
    return [float(row[column]) for row in RULES]


@sentence
def rules() -> str:
    missed, other = of_rules("layers beyond 0.001"), of_rules("rows with another top head")
    return (
        f"{100 * min(missed):.0f} to {100 * max(missed):.0f} % of the pairs of row and layer miss the"
        f" tolerance, by up to {max(of_rules('largest completeness error')):.2f}; {100 * min(other):.1f} to"
        f" {100 * max(other):.1f} % of the rows name another head as their strongest"
    )


@sentence
def rules_of_importance() -> str:
    least, common = min(of_rules("Spearman of importances")), min(of_rules("of the top 10 shared"))
    return (
        f"importances correlate by rank at {least:.3f} or more, and {common:.0f} of the top ten heads agree"
    )


@pytest.mark.parametrize("name", SENTENCES)
def test_the_prose_says_what_the_tables_hold(name: str) -> None:
    assert SENTENCES[name]() in DOCUMENT
