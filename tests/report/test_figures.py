"""Figures: every kind is drawn from the store, says what its axes are, and shows the store's numbers."""

from __future__ import annotations

import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from helpers.calling import Cli
from helpers.fabricate import execute, filled_store, new_store, register

from attattr_batch.errors import UserError
from attattr_batch.report.figures import FIGURES, chosen_runs, figure_rows, find_figure
from attattr_batch.report.heads import head_maps
from attattr_batch.report.layers import distance_map
from attattr_batch.report.theme import themed
from attattr_batch.store.database.connection import Store


def drawn(store: Store, name: str) -> dict[str, Any]:
    figure = find_figure(name)
    with store.read() as connection:
        rows = figure_rows(connection, figure, chosen_runs(connection, ()))
    return themed(figure.draw(rows)).to_dict()


def channels(node: Any) -> list[tuple[str, dict[str, Any]]]:
    """Every x, y and colour encoding of a specification that shows a field."""
    found: list[tuple[str, dict[str, Any]]] = []
    if isinstance(node, dict):
        for name, channel in node.get("encoding", {}).items():
            if name in ("x", "y", "color") and isinstance(channel, dict) and "field" in channel:
                found.append((name, channel))
        for value in node.values():
            found += channels(value)
    elif isinstance(node, list):
        for value in node:
            found += channels(value)
    return found


def data_rows(spec: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = list(spec.get("data", {}).get("values", []))
    for rows in spec.get("datasets", {}).values():
        found += rows
    for key in ("concat", "layer"):
        for part in spec.get(key, []):
            found += data_rows(part)
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_names_its_axes(built_store: Store, name: str) -> None:
    spec = drawn(built_store, name)
    encodings = channels(spec)
    assert {"x", "y"} <= {channel for channel, _ in encodings}
    # A title of null is meant: the labels say what they are. None at all would be a column's name.
    bare = [encoding for channel, encoding in encodings if "title" not in encoding]
    assert [one["field"] for one in bare if one["field"] not in ("ci_low", "control")] == []
    assert data_rows(spec)


def test_a_head_map_shows_the_importance_of_the_store(built_store: Store) -> None:
    with built_store.read() as connection:
        expected = connection.exec_driver_sql(
            "SELECT layer, head, importance FROM head_importance JOIN runs USING (run_id)"
            " WHERE name = 'mrpc' AND criterion = 'attattr'"
        ).all()
    shown = {
        (row["layer"], row["head"], row["importance"])
        for row in data_rows(drawn(built_store, "importance"))
        if row["run"] == "mrpc" and row["criterion"] == "attattr"
    }
    assert shown == {tuple(row) for row in expected}


def test_criteria_keep_their_colours_whatever_is_shown(built_store: Store) -> None:
    ranges = {}
    for name in ("pruning", "effectiveness"):
        scale = next(
            one["scale"] for channel, one in channels(drawn(built_store, name)) if channel == "color"
        )
        ranges[name] = dict(zip(scale["domain"], scale["range"], strict=True))
    both = ranges["effectiveness"].keys() & ranges["pruning"].keys()
    assert both == {"attattr", "attention"}
    assert all(ranges["effectiveness"][name] == ranges["pruning"][name] for name in both)


def test_more_rows_than_a_data_frame_may_have_are_drawn() -> None:
    n = 144
    rows = pa.table(
        {
            "run": [f"run {run}" for run in range(40) for _ in range(n)],
            "criterion": ["attattr"] * (40 * n),
            "layer": [head // 12 for _ in range(40) for head in range(n)],
            "head": [head % 12 for _ in range(40) for head in range(n)],
            "importance": [0.5] * (40 * n),
            "n": [1] * (40 * n),
            "ci_low": [None] * (40 * n),
            "ci_high": [None] * (40 * n),
        }
    )
    assert len(head_maps(rows).to_dict()["concat"]) == 40


def test_maps_stand_in_the_order_of_the_legend_and_fractions_have_four_digits() -> None:
    rows = pa.table(
        {
            "run": ["a", "a"],
            "criterion": ["taylor", "attattr"],
            "layer": [0, 0],
            "head": [0, 0],
            "importance": [0.5, 0.25],
        }
    )
    maps = head_maps(rows).to_dict()["concat"]
    assert [one["title"] for one in maps] == ["a: attattr", "a: taylor"]
    formats = {one["field"]: one.get("format") for one in maps[0]["encoding"]["tooltip"]}
    assert formats == {"layer": None, "head": None, "importance": ".4g"}


def test_patterns_with_the_same_words_have_labels_of_their_own(built_store: Store) -> None:
    execute(built_store, "UPDATE trigger_effects SET tokens = ['none']")
    with built_store.read() as connection:
        found = figure_rows(connection, find_figure("triggers"), chosen_runs(connection, ())).to_pylist()
    columns = ("run", "source", "ranking", "class")
    together = Counter(tuple(row[column] for column in columns) for row in found)
    for row in found:
        several = together[tuple(row[column] for column in columns)] > 1
        expected = f"{row['class']}: none" + (f" (for {row['argues_for']})" if several else "")
        assert row["label"] == expected + (" (by attention)" if row["source"] == "attention" else "")
    assert max(together.values()) > 1
    assert {row["source"] for row in found} == {"attribution", "attention"}


def test_rows_of_either_class_count_as_exact_or_not(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    execute(
        store,
        "UPDATE layer_scores_dedup SET completeness_error = 0.5 WHERE layer = 1 AND target = 'predicted'",
    )
    with store.read() as connection:
        found = figure_rows(connection, find_figure("completeness"), [1]).to_pylist()
    assert [row["worst"] == 0.5 for row in found] == [False, True]
    assert [row["n"] for row in found] == [10, 10], "two of eight examples have both classes"


def test_a_kind_of_link_that_one_run_lacks_keeps_its_column() -> None:
    rows = pa.table(
        {
            "run": ["single", "pair"],
            "layer": [0, 0],
            "distance": [1, 4],
            "link": ["within a text", "across the texts"],
            "n": [3, 5],
            "share": [1.0, 1.0],
        }
    )
    panels = distance_map(rows).to_dict()["concat"]
    assert [panel["title"] for panel in panels] == [
        "single: within a text",
        "single: across the texts",
        "pair: within a text",
        "pair: across the texts",
    ]


@pytest.mark.parametrize("ending", ["svg", "png", "json"])
def test_plot_writes_each_kind_of_file(
    built_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    path = tmp_path / "figures" / f"u.{ending}"
    answer = Cli(capsys, built_store.path)("plot", "universality", "-o", path, "--theme", "dark")
    assert answer.code == 0, answer.err
    content = path.read_bytes()
    if ending == "svg":
        assert content.startswith(b"<svg") and b"#16161a" in content
    elif ending == "png":
        width, height = struct.unpack(">II", content[16:24])
        assert width > 600 and height > 400
    else:
        assert json.loads(content)["$schema"].startswith("https://vega.github.io/schema/vega-lite/")


def test_what_cannot_be_drawn_is_said_plainly(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = filled_store(tmp_path)
    cli, picture = Cli(capsys, store.path), tmp_path / "x.svg"
    needed = f"attattr jobs run head_universality --db {store.path}\n"
    assert needed in cli.refuses("plot", "universality", "-o", picture)
    assert "did you mean 'pruning'" in cli.refuses("plot", "prunning", "-o", picture)
    assert ".svg, .png, .json" in cli.refuses("plot", "heads", "-o", tmp_path / "x.pdf")
    assert "no such run" in cli.refuses("plot", "heads", "--run", "nobody", "-o", picture)
    assert not picture.exists()


def test_a_board_without_numbers_says_why(built_store: Store) -> None:
    execute(
        built_store, "UPDATE faithfulness SET note = 'fewer evaluation rows than 30', cpr = NULL, cmd = NULL"
    )
    with pytest.raises(
        UserError, match="(?s)no numbers to show.*fewer evaluation rows than 30.*jobs show faith"
    ):
        drawn(built_store, "faithfulness")


def test_a_table_of_an_earlier_release_is_to_be_made_anew(built_store: Store) -> None:
    execute(built_store, "ALTER TABLE pruning_area DROP COLUMN measure")
    with pytest.raises(UserError, match="(?s)pruning_area, as an earlier release.*jobs run pruning_area"):
        drawn(built_store, "area")


def test_an_empty_store_has_nothing_to_draw(tmp_path: Path) -> None:
    with new_store(tmp_path).read() as connection, pytest.raises(UserError, match="no run yet"):
        chosen_runs(connection, ())


def test_a_figure_of_a_target_that_no_run_has_says_so(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    register(store, 2, "one-sided", targets="predicted")
    columns = "criterion k accuracy correct n ci_low ci_high ablation".replace(" ", ", 0 AS ")
    execute(
        store,
        f"CREATE TABLE effectiveness AS SELECT 1 AS run_id, '' AS direction, 0 AS {columns} WHERE false",
    )
    needed = "layerwise_accuracy reads attributions of the gold class.*one-sided.*--target both.*jobs run eff"
    with pytest.raises(UserError, match=f"(?s)nothing to draw.*{needed}"):
        drawn(store, "effectiveness")
    execute(store, "UPDATE runs SET targets = 'both'")
    with pytest.raises(
        UserError, match="(?s)nothing to draw[^:]*\n  next:    attattr jobs run effectiveness"
    ):
        drawn(store, "effectiveness")


def test_what_running_jobs_again_would_not_mend_has_another_next_step(built_store: Store) -> None:
    def refused(name: str, *runs: str) -> str:
        with built_store.read() as connection, pytest.raises(UserError) as error:
            figure_rows(connection, find_figure(name), chosen_runs(connection, runs))
        return str(error.value)

    alone = refused("scatter", "sst2")
    assert "choose two runs of one architecture" in alone and "sst2: bert with 4 x 4 heads" in alone
    execute(
        built_store,
        "UPDATE runs SET n_heads = 5 WHERE name = 'mrpc'",
        "DELETE FROM head_universality WHERE run_a <> run_b",
    )
    assert "4 x 4 heads; mrpc: bert with 4 x 5 heads" in refused("scatter")
    for table in ("pruning_curve", "trigger_effects"):
        execute(
            built_store, f"DELETE FROM {table} WHERE run_id = (SELECT run_id FROM runs WHERE name = 'sst2')"
        )
    again = refused("pruning", "sst2")
    assert "attattr jobs run pruning_curve" in again and "`attattr jobs show pruning_curve`" in again
    execute(
        built_store,
        "UPDATE examples SET gold = NULL WHERE run_id = (SELECT run_id FROM runs WHERE name = 'sst2')",
    )
    for figure in ("pruning", "triggers"):
        said = refused(figure, "sst2")
        assert "gold label, which these runs lack: sst2" in said and "choose runs of labelled rows" in said
