"""Every table of the store, as SQLAlchemy Core; the comments are the data dictionary.

Facts (`_stored` tables and other bulk rows) carry no key and no index: DuckDB would be four times slower and
the file 80 % larger. Their key columns stand in `table.info["key"]`; audits check that they are unique.

Attribution facts are stored once per class they were computed for. `target` in a `_stored` table is `gold`,
`predicted`, or `both` when the two classes coincide and one computation answers for both. The views of the
same name without `_stored` (schema/views) give such a row under each target; they are what people query.

`table.info["written_by"]` says who may add rows: "register" (a run's data), "chunk" (a worker's results, one
transaction per chunk) or "store" (bookkeeping). A column with `info["volatile"]` holds wall-clock or machine
facts and is left out of exports.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from sqlalchemy import ARRAY, DOUBLE, REAL, Boolean, Column, MetaData, String, Table

from attattr_batch.store.database import columns as c

STORED_SUFFIX = "_stored"

metadata = MetaData()


def _table(name: str, comment: str, *columns: Column[Any], key: str, written_by: str) -> Table:
    info = {"key": tuple(key.split()), "written_by": written_by}
    return Table(name, metadata, *columns, comment=comment, info=info)


meta = _table(
    "meta",
    "Facts about this file itself.",
    c.column("key", c.TEXT, "Name of the fact.", primary_key=True),
    c.column("value", c.TEXT, "Its value."),
    key="key",
    written_by="store",
)

runs = _table(
    "runs",
    "One row per run: one model x one dataset split x one method.",
    c.column("run_id", c.ID, "Number of the run; never used twice in one file.", primary_key=True),
    c.column("name", c.TEXT, "Name given by the user; unique, and not a number."),
    c.column("run_key", c.TEXT, "Identity: SHA-256 (hex) over everything that changes numbers."),
    c.column("labels", ARRAY(String), "Label names in the dataset's own id order (label id = list index)."),
    c.column("task", c.TEXT, "Task name, for example `sst2`."),
    c.column("split", c.TEXT, "Split of the dataset, for example `dev`."),
    c.column("model", c.TEXT, "Model as given: a folder, a hub id, or `bundled`."),
    c.column("family", c.TEXT, "Architecture family of the model, for example `bert`."),
    c.column("n_layers", c.SMALL, "Encoder layers of the model."),
    c.column("n_heads", c.SMALL, "Attention heads per layer."),
    c.column("n_examples", c.ID, "Examples of the run."),
    c.column("target", c.TEXT, "Classes attributed: `gold`, `predicted` or `both`."),
    c.column("quadrature", c.TEXT, "Rule of the integral over alpha: `adaptive` or a fixed rule's name."),
    c.column("nodes", c.SMALL, "Nodes of a fixed rule; null for `adaptive`.", nullable=True),
    c.column("tolerance", DOUBLE(), "Largest accepted |completeness_error| of an `adaptive` run."),
    c.column("dtype", c.TEXT, "Number format of the replays (docs/attribution.md): `float32` or `bfloat16`."),
    c.column("status", c.TEXT, "`running`, or `sealed` once every example is committed or quarantined."),
    c.column("tokenizer_key", c.TEXT, "Which vocabulary the token ids belong to (vocabulary.tokenizer_key)."),
    c.column("config", c.TEXT, "The full run spec (JSON)."),
    c.column("identity", c.TEXT, "What run_key is the hash of (JSON)."),
    c.column("provenance", c.TEXT, "Versions, machine, device: speed, not numbers (JSON).", volatile=True),
    c.column("created_at", c.TIME, "When the run was registered.", volatile=True),
    c.column("sealed_at", c.TIME, "When it was sealed; null while running.", nullable=True, volatile=True),
    c.column(
        "seals", c.ID, "How often it was sealed: again after `--retry-errors`; null if never.", nullable=True
    ),
    key="run_id",
    written_by="store",
)

passes = _table(
    "passes",
    "Model work over a run's examples, done by workers and committed chunk by chunk.",
    c.column("pass_id", c.ID, "Number of the pass; never used twice in one file.", primary_key=True),
    c.run_id(),
    c.column("kind", c.TEXT, "`attribute`, `masked_accuracy` or `attack`."),
    c.column("pass_key", c.TEXT, "Identity of the pass within its run: SHA-256 (hex) over its settings."),
    c.column("config", c.TEXT, "Settings of the pass (JSON)."),
    c.column("n_examples", c.ID, "Examples that the pass has to handle."),
    c.column("status", c.TEXT, "`running`, or `sealed` once every example is committed or quarantined."),
    c.column("created_at", c.TIME, "When the pass was registered.", volatile=True),
    c.column("sealed_at", c.TIME, "When it was sealed; null while running.", nullable=True, volatile=True),
    key="pass_id",
    written_by="store",
)

ledger = _table(
    "ledger",
    "Which examples of which pass are committed. Nothing else says so.",
    c.pass_id(primary_key=True),
    c.example_id(primary_key=True),
    c.run_id(),
    c.column("chunk", c.TEXT, "Name of the chunk whose transaction committed the example.", volatile=True),
    c.column("worker", c.TEXT, "Worker that computed the chunk.", volatile=True),
    c.column("seconds", c.FLOAT, "Compute time of the whole chunk, in seconds.", volatile=True),
    c.column("committed_at", c.TIME, "When the chunk was committed.", volatile=True),
    key="pass_id example_id",
    written_by="store",
)

failures = _table(
    "failures",
    "Quarantined examples: those that failed every attempt, and why.",
    c.pass_id(primary_key=True),
    c.example_id(primary_key=True),
    c.run_id(),
    c.column("kind", c.TEXT, "Name of the error."),
    c.column("message", c.TEXT, "What went wrong, in one line."),
    c.column("detail", c.TEXT, "More for the developer (traceback); may be empty.", volatile=True),
    c.column("attempts", c.SMALL, "Attempts made.", volatile=True),
    c.column("failed_at", c.TIME, "When the last attempt failed.", volatile=True),
    key="pass_id example_id",
    written_by="store",
)

examples = _table(
    "examples",
    "The texts of a run's dataset split.",
    c.run_id(),
    c.example_id(),
    c.column("text_a", c.TEXT, "First (or only) text."),
    c.column("text_b", c.TEXT, "Second text of a pair; null for single-text tasks.", nullable=True),
    c.column("gold", c.SMALL, "Gold label id (index into runs.labels); null if unlabelled.", nullable=True),
    key="run_id example_id",
    written_by="register",
)

tokens = _table(
    "tokens",
    "Tokens of every example as the model saw them, after truncation.",
    c.run_id(),
    c.example_id(),
    c.column("position", c.SMALL, "Position in the sequence, 0-based; query_pos and key_pos refer to it."),
    c.column("token_id", c.ID, "Token id (vocabulary.token_id under the run's tokenizer_key)."),
    c.column("segment", c.SMALL, "0 = first text, 1 = second text, null = special token.", nullable=True),
    key="run_id example_id position",
    written_by="register",
)

vocabulary = _table(
    "vocabulary",
    "Token strings of each tokenizer, shared by the runs that use it.",
    c.column("tokenizer_key", c.TEXT, "Which tokenizer (runs.tokenizer_key)."),
    c.column("token_id", c.ID, "Token id."),
    c.column("token", c.TEXT, "Token as the tokenizer writes it, for example `##ing`."),
    key="tokenizer_key token_id",
    written_by="register",
)

predictions = _table(
    "predictions",
    "The model's answer for every committed example.",
    c.run_id(),
    c.example_id(),
    c.column("gold", c.SMALL, "Gold label id; null if unlabelled.", nullable=True),
    c.column("predicted", c.SMALL, "Label id with the largest probability."),
    c.column("prob_gold", c.FLOAT, "Probability of the gold label; null if unlabelled.", nullable=True),
    c.column("prob_predicted", c.FLOAT, "Probability of the predicted label."),
    c.column("probabilities", ARRAY(REAL), "Probability of every label, in the dataset's id order."),
    c.column("n_tokens", c.SMALL, "Tokens of the sequence, special ones included."),
    c.column("truncated", Boolean(), "Whether tokens were cut to fit the length limit."),
    key="run_id example_id",
    written_by="chunk",
)

head_scores = _table(
    "head_scores_stored",
    "Per example and head: statistics of the attribution matrix Attr and of the attention matrix A.",
    c.run_id(),
    c.example_id(),
    c.layer(),
    c.head(),
    c.target(),
    c.column("attr_max", c.FLOAT, "Largest (signed) entry of Attr, special tokens and diagonal included."),
    c.column(
        "attr_max_query",
        c.SMALL,
        "Its row: the attending token's position; null if it is not positive.",
        nullable=True,
    ),
    c.column(
        "attr_max_key",
        c.SMALL,
        "Its column: the attended token's position; null if it is not positive.",
        nullable=True,
    ),
    c.column("attr_second", c.FLOAT, "Second largest entry of Attr."),
    c.column("attr_second_query", c.SMALL, "Its row; null if it is not positive.", nullable=True),
    c.column("attr_second_key", c.SMALL, "Its column; null if it is not positive.", nullable=True),
    c.column("attr_sum", c.FLOAT, "Sum of all entries of Attr."),
    c.column("attr_positive_sum", c.FLOAT, "Sum of the positive entries of Attr."),
    c.column("attn_max", c.FLOAT, "Largest entry of A."),
    c.column("attn_confidence", c.FLOAT, "Mean over query rows of the row's largest attention weight."),
    c.column("taylor", c.FLOAT, "|sum of A * dL/dA| of the head, L = cross-entropy of the attributed class."),
    c.column(
        "taylor_released",
        c.FLOAT,
        "What the authors' script takes instead: the sum of all class scores (logits) in place of L, and the"
        " absolute value for each query position, summed over positions; the same for either target. Their"
        " importance of a head is its mean over examples, divided by the layer's L2 norm of those means. Null"
        " in runs of an earlier release.",
        nullable=True,
    ),
    c.column("kept_mass", c.FLOAT, "Share of attr_positive_sum that the stored top-k edges hold, 0 to 1."),
    key="run_id example_id layer head target",
    written_by="chunk",
)

layer_scores = _table(
    "layer_scores_stored",
    "Per example and layer: both sides of completeness, how the integral was computed, scale of the tree.",
    c.run_id(),
    c.example_id(),
    c.layer(),
    c.target(),
    c.column(
        "f_full", c.FLOAT, "F(A): probability of the attributed class with the layer's attention intact."
    ),
    c.column("f_zero", c.FLOAT, "F(0): the same with the layer's attention scaled to zero."),
    c.column("completeness_error", c.FLOAT, "Sum of Attr over all heads, minus (f_full - f_zero)."),
    c.column(
        "path_error",
        c.FLOAT,
        "Largest |completeness error| of the integrals from 0 to each node; null for a fixed rule.",
        nullable=True,
    ),
    c.column(
        "agreement_error",
        c.FLOAT,
        "Largest change of a per-head maximum from the rule before, relative to the layer's largest entry;"
        " null for a fixed rule.",
        nullable=True,
    ),
    c.column("nodes", c.SMALL, "Nodes of the rule that was accepted."),
    c.column(
        "certified",
        Boolean(),
        "Whether it met all that the adaptive rule asks for (docs/attribution.md); null for a fixed rule and"
        " in runs of an earlier release.",
        nullable=True,
    ),
    c.column(
        "off_first_max", c.FLOAT, "Largest entry of the head-summed matrix over query rows >= 1 (tree scale)."
    ),
    c.column(
        "edge_floor",
        c.FLOAT,
        "Head-summed edges with less attribution than this are not stored in layer_edges (nor is any below"
        " the run's `edge_cap` strongest).",
    ),
    c.column("kept_mass", c.FLOAT, "Share of the head-summed matrix' positive mass in layer_edges, 0 to 1."),
    key="run_id example_id layer target",
    written_by="chunk",
)

target_scores = _table(
    "target_scores_stored",
    "Per example and target: the class attributed and the top node of its attribution tree.",
    c.run_id(),
    c.example_id(),
    c.target(),
    c.column("label", c.SMALL, "Label id of the class attributed."),
    c.column(
        "tree_top", c.SMALL, "Position of the tree's top node; null if no token qualifies.", nullable=True
    ),
    c.column(
        "tree_top_mass", c.FLOAT, "Row sum that chose the top node (all layers, scaled by their maximum)."
    ),
    key="run_id example_id target",
    written_by="chunk",
)

edges = _table(
    "edges_stored",
    "Per example and head: the k edges with the largest attribution.",
    c.run_id(),
    c.example_id(),
    c.layer(),
    c.head(),
    c.target(),
    c.column("rank", c.SMALL, "Order within the head, 0 = largest attribution."),
    c.query_pos(),
    c.key_pos(),
    c.column("query_token", c.ID, "Token id at query_pos."),
    c.column("key_token", c.ID, "Token id at key_pos."),
    c.column("attr", c.FLOAT, "Attribution of the edge."),
    c.column("attn", c.FLOAT, "Attention weight of the edge."),
    key="run_id example_id layer head target rank",
    written_by="chunk",
)

layer_edges = _table(
    "layer_edges_stored",
    "Per example and layer: edges of the head-summed attribution matrix above layer_scores.edge_floor; of"
    " more than the run's `edge_cap` (runs.config; default 512) the strongest.",
    c.run_id(),
    c.example_id(),
    c.layer(),
    c.target(),
    c.query_pos(),
    c.key_pos(),
    c.column("attr", c.FLOAT, "Attribution of the edge, summed over the layer's heads."),
    key="run_id example_id layer target query_pos key_pos",
    written_by="chunk",
)

mask_outcomes = _table(
    "mask_outcomes",
    "The model's answers with attention heads removed, as ordered by jobs.",
    c.run_id(),
    c.column("job", c.TEXT, "Job that ordered the answer (jobs/sql)."),
    c.example_id(),
    c.column("mask", c.TEXT, "Name that the job gave to the set of heads removed."),
    c.column("predicted", c.SMALL, "Label id with the largest probability."),
    c.column("prob_gold", c.FLOAT, "Probability of the gold label; null if unlabelled.", nullable=True),
    key="run_id job example_id mask",
    written_by="chunk",
)

attack_outcomes = _table(
    "attack_outcomes",
    "The model's answers with trigger tokens inserted, as ordered by jobs.",
    c.run_id(),
    c.column("job", c.TEXT, "Job that ordered the answer (jobs/sql)."),
    c.example_id(),
    c.column("attack", c.TEXT, "Name that the job gave to the tokens and places inserted."),
    c.column("predicted", c.SMALL, "Label id with the largest probability."),
    c.column("prob_gold", c.FLOAT, "Probability of the gold label; null if unlabelled.", nullable=True),
    c.column("truncated", Boolean(), "Whether the length limit cut a trigger token off."),
    key="run_id job example_id attack",
    written_by="chunk",
)

job_runs = _table(
    "job_runs",
    "Every time a job was built, or failed to be.",
    c.column("job_run_id", c.ID, "Number of the attempt; never used twice in one file.", primary_key=True),
    c.column("job", c.TEXT, "Name of the job (jobs/sql)."),
    c.column("params", c.TEXT, "Its parameters (JSON)."),
    c.column("runs", c.TEXT, "Names of the runs it was built for (JSON)."),
    c.column("status", c.TEXT, "`built` or `failed`."),
    c.column("started_at", c.TIME, "When it began.", volatile=True),
    c.column("finished_at", c.TIME, "When it ended.", volatile=True),
    c.column("rows", c.ID, "Rows of the table afterwards; for a pass, answers stored.", nullable=True),
    c.column("error", c.TEXT, "Why it failed; null if it did not.", nullable=True),
    key="job_run_id",
    written_by="store",
)

job_builds = _table(
    "job_builds",
    "What each job's rows of each run were last built from.",
    c.column("job", c.TEXT, "Name of the job (jobs/sql)."),
    c.run_id(),
    c.column(
        "build_key",
        c.TEXT,
        "Hash of the job's query, its parameters, runs.seals and the build keys of the jobs it depends on;"
        " another text if the job is to be built again.",
    ),
    c.column("params", c.TEXT, "Its parameters (JSON)."),
    key="job run_id",
    written_by="store",
)


def query_name(table: Table) -> str:
    """Name under which people query the table: the view's for a `_stored` table, else its own."""
    return table.name.removesuffix(STORED_SUFFIX)


def tables_written_by(writer: str) -> dict[str, Table]:
    """Tables whose rows come from `writer` ("register", "chunk" or "store"), by query name."""
    return {
        query_name(table): table for table in metadata.tables.values() if table.info["written_by"] == writer
    }


def arrow_schema(table: Table) -> pa.Schema:
    """Arrow schema of a table's rows: column order, narrow types, nullability."""
    return pa.schema(
        [pa.field(one.name, c.arrow_type(one.type), nullable=bool(one.nullable)) for one in table.columns]
    )
