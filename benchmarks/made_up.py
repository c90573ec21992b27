"""Runs with made-up facts of a given shape, fast to make: for measuring the store and the driver."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import load_folder
from attattr_batch.store.writing.ingest import ChunkFacts
from attattr_batch.store.writing.passes import register_pass
from attattr_batch.store.writing.runs import register_run

N_TOKENS = 40
VOCABULARY = 30_000
TOP_K = 5

Tables = dict[str, pa.Table]

AUDIT = {one.name: one.query for one in load_folder(data_folder("jobs") / "audits")}["ledger_and_facts"]
"""Query of the examples that are committed without all their facts, or have facts without being committed."""


@dataclass(frozen=True)
class Facts:
    """Layers and heads of the model, and whether edges are made as well.

    Every example is classified correctly, so that its rows stand for both targets.
    """

    n_layers: int = 12
    n_heads: int = 12
    edges: bool = True

    def tables(self, example_ids: np.ndarray[Any, Any]) -> Tables:
        """Every table of facts for these examples, as a worker hands it in."""
        n, draw = len(example_ids), np.random.default_rng(int(example_ids[0]))
        tables = {
            "predictions": self._predictions(example_ids),
            "target_scores": self._target_scores(example_ids),
            "layer_scores": self._layer_scores(example_ids, draw),
            "head_scores": self._head_scores(example_ids, draw),
        }
        if self.edges:
            count = n * self.n_layers * self.n_heads * TOP_K
            per_head = self._keys(example_ids, self.n_heads, TOP_K)
            rank = np.tile(np.arange(TOP_K, dtype=np.uint16), count // TOP_K)
            tables["edges"] = pa.table({**per_head, "rank": rank, **_edges(count, draw, tokens=True)})
            per_layer = self._keys(example_ids, 1, 20)
            del per_layer["head"]
            count = n * self.n_layers * 20
            tables["layer_edges"] = pa.table({**per_layer, **_edges(count, draw, tokens=False)})
        return tables

    def _keys(self, example_ids: np.ndarray[Any, Any], n_heads: int, repeats: int) -> dict[str, Any]:
        size = self.n_layers * n_heads * repeats
        layer = np.repeat(np.arange(self.n_layers, dtype=np.uint8), n_heads * repeats)
        head = np.tile(np.repeat(np.arange(n_heads, dtype=np.uint8), repeats), self.n_layers)
        return {
            "example_id": np.repeat(example_ids, size),
            "target": pa.repeat(pa.scalar("both"), len(example_ids) * size),
            "layer": np.tile(layer, len(example_ids)),
            "head": np.tile(head, len(example_ids)),
        }

    def _predictions(self, example_ids: np.ndarray[Any, Any]) -> pa.Table:
        n, label = len(example_ids), (example_ids % 3).astype(np.uint16)
        probability = np.full(n, 0.9, np.float32)
        return pa.table(
            {
                "example_id": example_ids,
                "gold": label,
                "predicted": label,
                "prob_gold": probability,
                "prob_predicted": probability,
                "probabilities": pa.array([[0.9, 0.05, 0.05]] * n, pa.list_(pa.float32())),
                "n_tokens": np.full(n, N_TOKENS, np.uint16),
                "truncated": np.zeros(n, bool),
            }
        )

    def _target_scores(self, example_ids: np.ndarray[Any, Any]) -> pa.Table:
        n = len(example_ids)
        return pa.table(
            {
                "example_id": example_ids,
                "target": pa.repeat(pa.scalar("both"), n),
                "label": (example_ids % 3).astype(np.uint16),
                "tree_top": np.full(n, 3, np.int32),
                "tree_top_mass": np.full(n, 0.5, np.float32),
            }
        )

    def _layer_scores(self, example_ids: np.ndarray[Any, Any], draw: np.random.Generator) -> pa.Table:
        keys = self._keys(example_ids, 1, 1)
        del keys["head"]
        n = len(example_ids) * self.n_layers
        names = ("f_full", "f_zero", "completeness_error", "path_error", "agreement_error", "off_first_max")
        values = {name: _random(n, draw) for name in (*names, "edge_floor", "kept_mass")}
        return pa.table({**keys, **values, "nodes": np.full(n, 5, np.uint16), "certified": np.ones(n, bool)})

    def _head_scores(self, example_ids: np.ndarray[Any, Any], draw: np.random.Generator) -> pa.Table:
        n = len(example_ids) * self.n_layers * self.n_heads
        names = ("attr_max", "attr_second", "attr_sum", "attr_positive_sum", "attn_max", "attn_confidence")
        values = {name: _random(n, draw) for name in (*names, "taylor", "taylor_released", "kept_mass")}
        places = {
            f"attr_{which}_{end}": draw.integers(0, N_TOKENS, n, dtype=np.uint16)
            for which in ("max", "second")
            for end in ("query", "key")
        }
        return pa.table({**self._keys(example_ids, self.n_heads, 1), **values, **places})


def register(store: Store, facts: Facts, n_examples: int, name: str) -> int:
    """Registers a run and its attribution pass; returns the pass."""
    record = dict(
        name=name,
        run_key=hashlib.sha256(name.encode()).hexdigest(),
        labels=["entailment", "neutral", "contradiction"],
        task="mnli",
        split="dev",
        model="made up",
        family="bert",
        n_layers=facts.n_layers,
        n_heads=facts.n_heads,
        n_examples=n_examples,
        targets="both",
        quadrature="adaptive",
        fixed_nodes=None,
        tolerance=1e-3,
        dtype="float32",
        tokenizer_key="made up",
        config={},
        identity={"dataset": "made up"},
        provenance={},
    )
    ids = np.arange(n_examples, dtype=np.int32)
    examples = pa.table(
        {
            "example_id": ids,
            "text_a": pa.repeat(pa.scalar("a premise"), n_examples),
            "text_b": pa.repeat(pa.scalar("a hypothesis"), n_examples),
            "gold": (ids % 3).astype(np.uint16),
        }
    )
    with store.write() as connection:
        run_id = register_run(connection, record, {"examples": examples})
        return register_pass(connection, run_id, "attribute", name, {}, n_examples)


def chunk_facts(facts: Facts, example_ids: np.ndarray[Any, Any]) -> ChunkFacts:
    """What a worker hands in for these examples."""
    return ChunkFacts(example_ids.tolist(), facts.tables(example_ids), "made up", 1.0)


def chunks(n_chunks: int, size: int) -> list[Chunk]:
    """Chunks of consecutive examples."""
    blank = ((2, 3), None, (None, None))
    return [
        Chunk(tuple(EncodedExample(i, *blank, i % 3, False) for i in range(start, start + size)))
        for start in range(0, n_chunks * size, size)
    ]


def _edges(count: int, draw: np.random.Generator, *, tokens: bool) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "query_pos": draw.integers(0, N_TOKENS, count, dtype=np.uint16),
        "key_pos": draw.integers(0, N_TOKENS, count, dtype=np.uint16),
        "attr": _random(count, draw),
    }
    if tokens:
        # Few tokens are frequent, as in text.
        for end in ("query", "key"):
            columns[f"{end}_token"] = (VOCABULARY * draw.random(count) ** 4).astype(np.uint32)
        columns["attn"] = _random(count, draw)
    return columns


def _random(count: int, draw: np.random.Generator) -> np.ndarray[Any, Any]:
    return draw.random(count, dtype=np.float32)
