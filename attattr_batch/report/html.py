"""The report: one self-contained HTML file with every figure, its numbers, and how to make it again.

The charts are drawn in the browser by Vega, which is written into the file; nothing is fetched when it is
opened, and its content security policy forbids it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import pyarrow as pa
import vl_convert
from sqlalchemy import Connection, Row

from attattr_batch.analysis.questions import ask, question
from attattr_batch.errors import UserError
from attattr_batch.files import write_file
from attattr_batch.markup import escape, html_table
from attattr_batch.report.figures import FIGURES, chosen_runs, figure_rows
from attattr_batch.report.reproduce import commands, run_spec_yaml
from attattr_batch.report.theme import colour_config
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.runs import list_runs

_MAX_TABLE_ROWS = 300
_MOST_PAIRED = 6


def write_report(store: Store, path: Path) -> Path:
    """Writes the report of every run in the store.

    Raises:
        StoreError: the store cannot be read.
        UserError: it holds no run, or the file cannot be written.
    """
    with store.read() as connection:
        run_ids = chosen_runs(connection, ())
        runs = list_runs(connection)
        sections, charts = _figures(connection, runs)
        body = [
            _answer(connection, "Runs", "questions/summary", runs=run_ids),
            *sections,
            _answer(connection, "Token pairs", "queries/strongest_token_pairs"),
            _identities(runs),
            _answer(connection, "Jobs", "questions/jobs"),
            "<h2>How to make this again</h2><p>Save as <code>runs.yaml</code>:</p>"
            f"<pre>{escape(run_spec_yaml(runs))}</pre><p>Then:</p><pre>{escape(commands(connection))}</pre>",
        ]
    page = Template(Path(__file__).with_name("page.html").read_text(encoding="utf-8")).substitute(
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        body="".join(body),
        charts=_json(charts),
        looks=_json({theme: colour_config(theme) for theme in ("light", "dark")}),
        vega=_vega(),
    )
    write_file(path, page)
    return path


@cache
def _vega() -> str:
    """The JavaScript that draws the charts. Bundling it takes two seconds."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _json(value: Any) -> str:
    """JSON whose texts cannot end the script element in which it stands."""
    return json.dumps(value).replace("<", "\\u003c")


def _figures(connection: Connection, runs: Sequence[Row[Any]]) -> tuple[list[str], dict[str, Any]]:
    """Sections of all figures, and the Vega-Lite specification of each that could be drawn, by name."""
    sections, charts, ranked = [], {}, set()
    for figure in FIGURES.values():
        # `heads` shows the runs that are newer than the job behind `importance`, which comes before it.
        shown = [run.run_id for run in runs if figure.name != "heads" or run.name not in ranked]
        if not shown:
            continue
        text = f'<h2 id="{figure.name}">{figure.title}</h2><p>{escape(figure.query.description)}</p>'
        if figure.of_pairs and len(shown) > _MOST_PAIRED:
            shown = shown[-_MOST_PAIRED:]
            text += f"<p>Of {len(runs)} runs the {_MOST_PAIRED} newest; `attattr plot` draws the others.</p>"
        try:
            rows = figure_rows(connection, figure, shown)
        except UserError as error:
            sections.append(f'{text}<pre class="missing">{escape(str(error))}</pre>')
            continue
        if figure.name == "importance":
            ranked = set(rows["run"].to_pylist())
        charts[figure.name] = figure.draw(rows).to_dict()
        sections.append(f'{text}<div class="chart" id="chart-{figure.name}"></div>{_numbers(rows)}')
    return sections, charts


def _answer(connection: Connection, title: str, name: str, **values: Any) -> str:
    """Heading, description and rows of a question."""
    table = _table(ask(connection, name, **values))
    return f"<h2>{title}</h2><p>{escape(question(name).description)}</p>{table}"


def _identities(runs: Sequence[Row[Any]]) -> str:
    of_runs = "".join(
        f"<p><b>{escape(run.name)}</b>: key <code>{escape(run.run_key)}</code>, identity"
        f" <code>{escape(run.identity)}</code>, made with <code>{escape(run.provenance)}</code></p>"
        for run in runs
    )
    return f"<h2>Identity of the runs</h2>{of_runs}"


def _numbers(rows: pa.Table) -> str:
    shown = rows.slice(0, _MAX_TABLE_ROWS)
    more = f"; the first {_MAX_TABLE_ROWS} are shown" if rows.num_rows > _MAX_TABLE_ROWS else ""
    return f"<details><summary>The numbers ({rows.num_rows} rows{more})</summary>{_table(shown)}</details>"


def _table(rows: pa.Table) -> str:
    table = html_table(rows.column_names, [[*row.values()] for row in rows.to_pylist()])
    return f'<div class="wide">{table}</div>'
