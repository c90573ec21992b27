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
from typing import Any

import pyarrow as pa
import vl_convert
from sqlalchemy import Connection

from attattr_batch.errors import UserError
from attattr_batch.files import write_file
from attattr_batch.markup import cell, escape
from attattr_batch.report.figures import FIGURES, Figure, figure_rows, missing_jobs, with_criterion
from attattr_batch.report.reproduce import commands, run_spec_yaml
from attattr_batch.report.theme import colour_config
from attattr_batch.store.database.connection import Store, arrow_result
from attattr_batch.store.writing.runs import list_runs

_MAX_TABLE_ROWS = 300
_MAX_PAIRS = 15

_STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --ground: #fff; --line: #c9c9d6; --soft: #f2f2f6; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8ee; --ground: #16161a; --line: #44444e; --soft: #24242a; }
}
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 68rem; padding: 0 1rem;
  color: var(--ink); background: var(--ground); }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }

.chart, .wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.8rem 0; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.7rem; text-align: left; } th { border-bottom: 1px solid var(--line); }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
code, pre { background: var(--soft); padding: 0 0.25rem; overflow-wrap: anywhere; }
pre { padding: 0.6rem; overflow-x: auto; white-space: pre-wrap; }
summary { cursor: pointer; } .missing { opacity: 0.75; }
"""

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:;"
    # Vega compiles expressions.
    " script-src 'unsafe-inline' 'unsafe-eval'"
)

_DRAW = """
const charts = JSON.parse(document.getElementById("charts").textContent);
const looks = JSON.parse(document.getElementById("looks").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function draw() {
  const config = looks[dark.matches ? "dark" : "light"];
  for (const [name, chart] of Object.entries(charts)) {
    vegaEmbed("#chart-" + name, chart, {config, renderer: "svg", actions: false});
  }
}
dark.addEventListener("change", draw);
draw();
"""


def write_report(store: Store, path: Path) -> Path:
    """Writes the report of every run in the store.

    Raises:
        StoreError: the store cannot be read.
        UserError: it holds no run, or the file cannot be written.
    """
    with store.read() as connection:
        runs = list_runs(connection)
        if not runs:
            raise UserError("the store holds no run yet", got=store.path, hint="attattr run")
        run_ids = [int(run.run_id) for run in runs]
        sections, charts = _figures(connection, run_ids)
        body = [_overview(connection), *sections, _tokens(connection), _origins(connection, runs)]
    write_file(path, _page(body, charts))
    return path


def _page(body: Sequence[str], charts: dict[str, Any]) -> str:
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    looks = {theme: colour_config(theme) for theme in ("light", "dark")}
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>attattr report</title>'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<style>{_STYLE}</style></head><body><h1>Self-attention attribution</h1>"
        f"<p>Written {made}. Attribution of a head is the largest entry of its ATTATTR matrix (Hao et al.,"
        " AAAI-21), averaged over examples, in units of class probability. Layers and heads count from 0;"
        " layer 0 is next to the input.</p>"
        f"{''.join(body)}"
        f'<script type="application/json" id="charts">{_json(charts)}</script>'
        f'<script type="application/json" id="looks">{_json(looks)}</script>'
        f"<script>{_vega()}</script><script>{_DRAW}</script></body></html>"
    )


@cache
def _vega() -> str:
    """What draws the charts; to put it together takes two seconds."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def _json(value: Any) -> str:
    """JSON that cannot end the script element it stands in, whatever the texts hold."""
    return json.dumps(value).replace("<", "\\u003c")


def _figures(connection: Connection, run_ids: list[int]) -> tuple[list[str], dict[str, Any]]:
    """Sections of all figures, and the Vega-Lite specification of each that could be drawn, by name."""
    sections, charts = [], {}
    ranked = _with_importance(connection, run_ids)
    # The two show the same: each run is in one of them.
    own = {"importance": ranked, "heads": [run_id for run_id in run_ids if run_id not in ranked]}
    for figure in FIGURES.values():
        shown = own.get(figure.name, run_ids)
        if not shown:
            continue
        heading = f'<h2 id="{figure.name}">{figure.title}</h2>'
        text = f"{heading}<p>{escape(figure.query.description)}</p>"
        try:
            rows = _limited(figure, figure_rows(connection, figure, shown))
        except UserError as error:
            sections.append(f'{text}<pre class="missing">{escape(str(error))}</pre>')
            continue
        charts[figure.name] = figure.draw(rows).to_dict()
        sections.append(f'{text}<div class="chart" id="chart-{figure.name}"></div>{_numbers(rows)}')
    return sections, charts


def _with_importance(connection: Connection, run_ids: list[int]) -> list[int]:
    """Those of the runs that the job `head_importance` was built for."""
    if missing_jobs(connection, FIGURES["importance"]):
        return []
    query = "SELECT DISTINCT run_id FROM head_importance WHERE criterion <> 'random'"
    built = set(arrow_result(connection, query)["run_id"].to_pylist())
    return [run_id for run_id in run_ids if run_id in built]


def _limited(figure: Figure, rows: pa.Table) -> pa.Table:
    """The rows of the paper's criterion, where a figure shows one; refuses more panels than one can read."""
    if not figure.by_criterion:
        return rows
    rows = with_criterion(rows, "attattr")
    pairs = set(zip(rows["run_a"].to_pylist(), rows["run_b"].to_pylist(), strict=True))
    if len(pairs) > _MAX_PAIRS:
        raise UserError(
            "there are too many pairs of runs for one page",
            got=len(pairs),
            allowed=f"at most {_MAX_PAIRS}",
            hint="attattr plot scatter --run A --run B -o scatter.svg",
        )
    return rows


def _overview(connection: Connection) -> str:
    columns = (
        'name AS run, task, split, model, layers_x_heads AS "layers x heads", n_examples AS examples,'
        ' committed, quarantined, accuracy, worst_completeness_error AS "largest completeness error",'
        " uncertified, status"
    )
    rows = arrow_result(connection, f"SELECT {columns} FROM run_summary ORDER BY run_id")
    return f"<h2>Runs</h2>{_table(rows)}"


def _tokens(connection: Connection) -> str:
    rows = arrow_result(
        connection,
        "SELECT r.name AS run, e.query, e.key, count(DISTINCT e.example_id) AS examples,"
        ' avg(e.attr)::DOUBLE AS "mean attribution"'
        " FROM edge_tokens AS e JOIN runs AS r USING (run_id)"
        " WHERE e.rank = 0 AND e.target = if(r.targets = 'predicted', 'predicted', 'gold')"
        " GROUP BY e.run_id, r.name, e.query, e.key HAVING examples > 2"
        " QUALIFY row_number() OVER (PARTITION BY e.run_id ORDER BY avg(e.attr) DESC, e.query, e.key) <= 8"
        ' ORDER BY e.run_id, "mean attribution" DESC',
    )
    text = (
        "Pairs of tokens on the strongest edge of any head, in more than two examples, by mean attribution."
    )
    return f"<h2>Token pairs</h2><p>{text}</p>{_table(rows)}"


def _origins(connection: Connection, runs: Sequence[Any]) -> str:
    identities = "".join(
        f"<p><b>{escape(run.name)}</b>: key <code>{escape(run.run_key)}</code>, identity"
        f" <code>{escape(run.identity)}</code>, made with <code>{escape(run.provenance)}</code></p>"
        for run in runs
    )
    jobs = arrow_result(
        connection,
        "SELECT job, params, runs, rows, finished_at::VARCHAR AS built FROM built_jobs ORDER BY finished_at",
    )
    return (
        f"<h2>Identity of the runs</h2>{identities}<h2>Jobs</h2>"
        f"<p>The latest build of each; rows of runs that it was not for stay.</p>{_table(jobs)}"
        "<h2>How to make this again</h2><p>Save as <code>runs.yaml</code>:</p>"
        f"<pre>{escape(run_spec_yaml(runs))}</pre><p>Then:</p><pre>{escape(commands(connection))}</pre>"
    )


def _numbers(rows: pa.Table) -> str:
    shown = rows.slice(0, _MAX_TABLE_ROWS)
    more = f"; the first {_MAX_TABLE_ROWS} are shown" if rows.num_rows > _MAX_TABLE_ROWS else ""
    return f"<details><summary>The numbers ({rows.num_rows} rows{more})</summary>{_table(shown)}</details>"


def _table(rows: pa.Table) -> str:
    types = dict(zip(rows.column_names, rows.schema.types, strict=True))
    numeric = {
        name for name, kind in types.items() if pa.types.is_floating(kind) or pa.types.is_integer(kind)
    }
    classes = {name: ' class="number"' if name in numeric else "" for name in types}
    lines = ["".join(f"<th{classes[name]}>{escape(name)}</th>" for name in types)]
    for row in rows.to_pylist():
        lines.append("".join(f"<td{classes[name]}>{cell(value)}</td>" for name, value in row.items()))
    return f'<div class="wide"><table>{"".join(f"<tr>{line}</tr>" for line in lines)}</table></div>'
