"""Small runs with made-up but consistent facts, stored through the real ingest path.

Facts are a function of the example id alone, so that two stores filled in different ways can be compared.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import load_folder
from attattr_batch.store.database.tables import metadata
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunk
from attattr_batch.store.writing.passes import register_pass, seal_pass
from attattr_batch.store.writing.runs import register_run

Tables = dict[str, pa.Table]

AUDITS = {audit.name: audit.query for audit in load_folder(data_folder("jobs") / "audits")}

INTEGRITY = f"""(
    SELECT
        p.run_id,
        (SELECT count(*) FROM ledger AS l WHERE l.pass_id = p.pass_id) AS committed,
        p.run_id NOT IN (SELECT run_id FROM ({AUDITS["ledger_and_facts"]})) AS ok
    FROM passes AS p
    WHERE p.kind = 'attribute'
)"""
"""For each attribution pass: examples committed, and whether these and no others have all their facts."""

N_LAYERS = 2
N_HEADS = 3
N_TOKENS = 5
VOCABULARY = ["[PAD]", "[CLS]", "[SEP]", "a", "good", "bad", "##ly", "film"]


def gold_of(example_id: int) -> int:
    return example_id % 2


def predicted_of(example_id: int) -> int:
    """Wrong on every fourth example."""
    return 1 - gold_of(example_id) if example_id % 4 == 3 else gold_of(example_id)


def record(name: str = "first", **changes: Any) -> dict[str, Any]:
    """Values of a run by column of `runs`."""
    values = {
        "name": name,
        "run_key": f"{name:0<64}",
        "labels": ["negative", "positive"],
        "task": "sst2",
        "split": "dev",
        "model": "tiny",
        "family": "bert",
        "n_layers": N_LAYERS,
        "n_heads": N_HEADS,
        "n_examples": 8,
        "targets": "both",
        "quadrature": "adaptive",
        "fixed_nodes": None,
        "tolerance": 1e-3,
        "dtype": "float32",
        "tokenizer_key": "tiny-vocabulary",
        "config": {"task": "sst2"},
        "identity": {"task": "sst2"},
        "provenance": {"device": "cpu"},
    }
    return values | changes


def run_tables(example_ids: Sequence[int]) -> dict[str, pa.Table]:
    """Rows of `examples`, `tokens` and `vocabulary`."""
    examples = {
        "example_id": list(example_ids),
        "text_a": [f"a film number {example_id}" for example_id in example_ids],
        "text_b": pa.nulls(len(example_ids), pa.string()),
        "gold": [gold_of(example_id) for example_id in example_ids],
    }
    tokens = {
        "example_id": np.repeat(example_ids, N_TOKENS),
        "position": np.tile(np.arange(N_TOKENS), len(example_ids)),
        "token_id": np.tile([1, 3, 7, 4, 2], len(example_ids)),
        "segment": pa.array([None, 0, 0, 0, None] * len(example_ids), pa.int16()),
        "word": pa.array([None, 0, 1, 2, None] * len(example_ids), pa.int16()),
    }
    vocabulary = {"token_id": list(range(len(VOCABULARY))), "token": VOCABULARY}
    return {"examples": pa.table(examples), "tokens": pa.table(tokens), "vocabulary": pa.table(vocabulary)}


def targets_of(example_id: int, target: str) -> list[str]:
    if target != "both":
        return [target]
    return ["both"] if gold_of(example_id) == predicted_of(example_id) else ["gold", "predicted"]


def facts(example_ids: Iterable[int], target: str = "both") -> dict[str, pa.Table]:
    """Every table of facts for these examples, as a worker hands it in."""
    rows: dict[str, list[dict[str, Any]]] = {
        name: []
        for name in (
            "predictions",
            "target_scores",
            "layer_scores",
            "head_scores",
            "edges",
            "layer_edges",
            "attention_peaks",
        )
    }
    for example_id in example_ids:
        rows["predictions"].append(_prediction(example_id))
        rows["attention_peaks"] += [_peak_row(example_id, rank) for rank in range(2)]
        for one in targets_of(example_id, target):
            label = predicted_of(example_id) if one == "predicted" else gold_of(example_id)
            key = {"example_id": example_id, "target": one}
            rows["target_scores"].append({**key, "label": label, "tree_top": 3, "tree_top_mass": 0.5})
            for layer in range(N_LAYERS):
                probability = _prediction(example_id)["probabilities"][label]
                rows["layer_scores"].append(_layer_row({**key, "layer": layer}, probability))
                rows["layer_edges"].append({**key, "layer": layer, "query_pos": 3, "key_pos": 2, "attr": 0.1})
                for head in range(N_HEADS):
                    here = {**key, "layer": layer, "head": head}
                    rows["head_scores"].append(_head_row(here))
                    rows["edges"] += [_edge_row({**here, "rank": rank}) for rank in range(2)]
    return {name: pa.Table.from_pylist(table) for name, table in rows.items()}


def _prediction(example_id: int) -> dict[str, Any]:
    predicted, gold = predicted_of(example_id), gold_of(example_id)
    probabilities = [0.25, 0.25]
    probabilities[predicted] = 0.75
    return {
        "example_id": example_id,
        "gold": gold,
        "predicted": predicted,
        "prob_gold": probabilities[gold],
        "prob_predicted": 0.75,
        "probabilities": probabilities,
        "n_tokens": N_TOKENS,
        "truncated": False,
    }


def _value(key: dict[str, Any]) -> float:
    """A value of its own for every key, exact in float32."""
    target = ("gold", "predicted", "both").index(key["target"])
    number: int = key["example_id"] * 64 + key.get("layer", 0) * 16 + key.get("head", 0) * 4 + target
    return number / 65536


def _layer_row(key: dict[str, Any], probability: float) -> dict[str, Any]:
    return key | {
        "f_full": probability,
        "f_zero": 0.5,
        "completeness_error": 1e-4,
        "path_error": 1e-4,
        "agreement_error": 1e-4,
        "nodes": 5,
        "certified": True,
        "off_first_max": 0.1 + _value(key),
        "edge_floor": 0.05,
        "kept_mass": 0.9,
    }


def _head_row(key: dict[str, Any]) -> dict[str, Any]:
    value = _value(key)
    return key | {
        "attr_max": value,
        "attr_max_query": 3,
        "attr_max_key": 2,
        "attr_second": value / 2,
        "attr_second_query": 2,
        "attr_second_key": 3,
        "attr_sum": value * 2,
        "attr_positive_sum": value * 3,
        "attn_max": 0.5,
        "attn_confidence": 0.4,
        "taylor": value,
        "taylor_released": value * 4,
        "grad_attn": value / 4,
        "kept_mass": 0.8,
    }


def _peak_row(example_id: int, rank: int) -> dict[str, Any]:
    place = {"layer": 1, "head": example_id % N_HEADS, "query_pos": 3, "key_pos": rank + 1}
    return place | {"example_id": example_id, "peak": rank, "attn": 0.5 - 0.25 * rank}


def _edge_row(key: dict[str, Any]) -> dict[str, Any]:
    place = {"query_pos": 3, "key_pos": key["rank"] + 1, "query_token": 4, "key_token": (3, 7)[key["rank"]]}
    return key | place | {"attr": _value(key) / (1 + key["rank"]), "attn": 0.5}


def new_store(folder: Path) -> Store:
    """An empty store of the present schema."""
    return _store_with(folder, _blank_file())


@functools.cache
def _blank_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = _store_with(Path(folder), None)
        store.migrate()
        return store.path.read_bytes()


def _store_with(folder: Path, content: bytes | None) -> Store:
    store = Store(folder / "attattr.duckdb", create=True, timeout_s=5.0)
    if content is not None:
        store.path.write_bytes(content)
    return store


def register(store: Store, n_examples: int = 8, name: str = "first", **changes: Any) -> tuple[int, int]:
    """Registers a run of `n_examples` and its attribution pass; returns (run_id, pass_id)."""
    with store.write() as connection:
        one = record(name, n_examples=n_examples, **changes)
        run_id = register_run(connection, one, run_tables(range(n_examples)))
        return run_id, register_pass(connection, run_id, "attribute", "default", {}, n_examples)


def chunk(example_ids: Sequence[int], target: str = "both", tables: Tables | None = None) -> ChunkFacts:
    given = facts(example_ids, target) if tables is None else tables
    return ChunkFacts(list(example_ids), given, "worker-0", 0.25)


def commit(store: Store, pass_id: int, example_ids: Sequence[int], target: str = "both") -> list[int]:
    return commit_chunk(store, pass_id, chunk(example_ids, target))


def registered_store(folder: Path) -> Store:
    """A store with a run of 8 examples, nothing committed: run_id 1, pass_id 1."""
    return _store_with(folder, _registered_file())


@functools.cache
def _registered_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = new_store(Path(folder))
        register(store, 8)
        store.checkpoint()
        return store.path.read_bytes()


def filled_store(folder: Path) -> Store:
    """A store with one sealed run of 8 examples, run_id 1, pass_id 1."""
    return _store_with(folder, _filled_file())


@functools.cache
def _filled_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        store = registered_store(Path(folder))
        commit(store, 1, range(0, 5))
        commit(store, 1, range(5, 8))
        seal_pass(store, 1)
        return store.path.read_bytes()


def rows(store: Store, sql: str) -> list[tuple[Any, ...]]:
    with store.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql).all()]


def contents(store: Store, condition: str = "true") -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, sorted, in one reading; `condition` filters tables that have a run_id."""
    found = {}
    with store.read() as connection:
        for name, table in metadata.tables.items():
            where = condition if "run_id" in table.columns else "true"
            result = connection.exec_driver_sql(f"SELECT * FROM {name} WHERE {where} ORDER BY ALL").all()
            found[name] = [tuple(row) for row in result]
    return found


def execute(store: Store, *statements: str) -> None:
    """Changes the store behind the back of ingest, to plant an offence."""
    with store.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)


def changed(name: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Tables], Tables]:
    """Tables of facts of which one is changed."""
    return lambda tables: tables | {name: change(tables[name])}


def with_value(column: str, value: Any, row: int = 0) -> Callable[[pa.Table], pa.Table]:
    """A change of one value."""

    def change(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[row] = value
        return table.set_column(table.column_names.index(column), column, pa.array(values))

    return change


def add_importance(store: Store) -> None:
    """What the job `head_importance` made when there was no run but the first."""
    execute(
        store,
        "CREATE TABLE head_importance AS SELECT run_id, unnest(['attattr', 'random']) AS criterion,"
        " layer, head, attr_max AS importance, n, 0::DOUBLE AS ci_low, 1::DOUBLE AS ci_high"
        " FROM head_summary WHERE run_id = 1 AND target = 'gold'",
    )


def add_run(store: Store, name: str, **changes: object) -> None:
    """One more sealed run, with no facts but a prediction for each of its two examples."""
    run_id, _ = register(store, 2, name, **changes)
    execute(
        store,
        f"INSERT INTO predictions SELECT * REPLACE ({run_id} AS run_id) FROM predictions"
        " WHERE run_id = 1 AND example_id < 2",
        f"UPDATE runs SET status = 'sealed' WHERE run_id = {run_id}",
    )
