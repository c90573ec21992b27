"""The report: one self-contained HTML file, with pictures as SVG and the numbers beside them as tables."""

from __future__ import annotations

import html
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import vl_convert
from sqlalchemy import Connection

from attattr_batch.errors import UserError
from attattr_batch.report.charts import head_map, nodes_by_layer
from attattr_batch.store.connection import Store, arrow_result
from attattr_batch.store.runs import list_runs

_TOP = 8

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem;
  color: #1b1b1f; background: #fff; }
h1 { font-size: 1.6rem; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccd; }
figure { display: inline-block; margin: 0.5rem 1.5rem 0.5rem 0; vertical-align: top; }
table { border-collapse: collapse; margin: 0.8rem 0; } th, td { padding: 0.15rem 0.7rem; text-align: left; }
th { border-bottom: 1px solid #889; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { background: #f2f2f6; padding: 0 0.25rem; overflow-wrap: anywhere; }
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
        body = "".join(_run_section(connection, run) for run in runs)
        overview = _overview(connection)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>attattr report</title>'
        f"<style>{_STYLE}</style><h1>Self-attention attribution</h1>"
        f"<p>Written {made}. Attribution of a head is the largest entry of its ATTATTR matrix, averaged over"
        f" examples, in units of class probability.</p>{overview}{body}</html>"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise UserError("the report cannot be written", got=f"{path}: {error}") from error
    return path


def _overview(connection: Connection) -> str:
    columns = (
        'name AS run, task, model, layers_x_heads AS "layers x heads", committed, quarantined, accuracy,'
        ' worst_completeness_error AS "largest completeness error", status'
    )
    return _table(arrow_result(connection, f"SELECT {columns} FROM run_summary ORDER BY run_id"))


def _run_section(connection: Connection, run: Any) -> str:
    target = "predicted" if run.target == "predicted" else "gold"
    where = [run.run_id, target]
    summary = arrow_result(connection, "SELECT * FROM head_summary WHERE run_id = ? AND target = ?", where)
    if summary.num_rows == 0:
        return f"<h2>{_escape(run.name)}</h2><p>No example is committed yet.</p>"
    nodes = arrow_result(
        connection,
        "SELECT layer, nodes, count(*) AS rows FROM layer_scores WHERE run_id = ? AND target = ?"
        " GROUP BY ALL ORDER BY ALL",
        where,
    )
    heads = arrow_result(
        connection,
        "SELECT layer, head, attr_max, attr_sum, attn_confidence, taylor, n FROM head_summary"
        f" WHERE run_id = ? AND target = ? ORDER BY attr_max DESC LIMIT {_TOP}",
        where,
    )
    pairs = arrow_result(
        connection,
        "SELECT query, key, count(DISTINCT example_id) AS examples,"
        ' avg(attr) AS "mean attribution" FROM edge_tokens WHERE run_id = ? AND target = ? AND rank = 0'
        f" GROUP BY ALL HAVING examples > 2 ORDER BY avg(attr) DESC LIMIT {_TOP}",
        where,
    )
    charts = [
        head_map(summary, title=f"attribution, {target} class"),
        head_map(summary, value="attn_confidence", title="attention confidence"),
        nodes_by_layer(nodes, title="quadrature nodes needed"),
    ]
    pictures = "".join(f"<figure>{_svg(chart)}</figure>" for chart in charts)
    identity = json.dumps(json.loads(run.identity), indent=None, sort_keys=True)
    return (
        f"<h2>{_escape(run.name)}</h2>{pictures}"
        f"<h3>Heads with the largest attribution</h3>{_table(heads)}"
        f"<h3>Token pairs on the heads' strongest edges</h3>{_table(pairs)}"
        f"<p>Identity <code>{run.run_key}</code>: <code>{_escape(identity)}</code></p>"
    )


def _svg(chart: Any) -> str:
    svg: str = vl_convert.vegalite_to_svg(chart.to_json())
    return svg


def _table(rows: pa.Table) -> str:
    head = "".join(f"<th>{_escape(name)}</th>" for name in rows.column_names)
    body = "".join(f"<tr>{''.join(_cell(value) for value in row.values())}</tr>" for row in rows.to_pylist())
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    kind = ' class="number"' if isinstance(value, int) else ""
    return f"<td{kind}>{_escape('' if value is None else str(value))}</td>"


def _escape(text: str) -> str:
    return html.escape(text, quote=True)
