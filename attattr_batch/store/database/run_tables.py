"""Tables about runs and passes: what was asked for, what is done, and the data of a run."""

from __future__ import annotations

from sqlalchemy import ARRAY, DOUBLE, String

from attattr_batch.store.database import columns as c
from attattr_batch.store.database.columns import shared, table

meta = table(
    "meta",
    "Facts about this file itself.",
    c.column("key", c.TEXT, "Name of the fact.", primary_key=True),
    c.column("value", c.TEXT, "Its value."),
    key="key",
)

runs = table(
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
    c.column("targets", c.TEXT, "Classes attributed: `gold`, `predicted` or `both`."),
    c.column("quadrature", c.TEXT, "Rule of the integral over alpha: `adaptive` or a fixed rule's name."),
    c.optional("fixed_nodes", c.SMALL, "Nodes of a fixed rule; null for `adaptive`."),
    c.column("tolerance", DOUBLE(), "Largest accepted |completeness_error| of an `adaptive` run."),
    c.column(
        "dtype", c.TEXT, "Number format of the replays (docs/attribution.md): `float32` where it is exact."
    ),
    c.column("status", c.TEXT, "`running`, or `sealed` once every example is committed or quarantined."),
    c.column("tokenizer_key", c.TEXT, "Which vocabulary the token ids belong to (vocabulary.tokenizer_key)."),
    c.column("config", c.TEXT, "The full run spec (JSON)."),
    c.column("identity", c.TEXT, "What run_key is the hash of (JSON)."),
    c.column("provenance", c.TEXT, "Versions, machine, device: speed, not numbers (JSON).", volatile=True),
    c.column("created_at", c.TIME, "When the run was registered.", volatile=True),
    c.column("sealed_at", c.TIME, "When it was sealed; null while running.", nullable=True, volatile=True),
    c.optional("seals", c.ID, "How often it was sealed: again after `--retry-errors`; null if never."),
    key="run_id",
)

passes = table(
    "passes",
    "Model work over a run's examples, done by workers and committed chunk by chunk.",
    c.column("pass_id", c.ID, "Number of the pass; never used twice in one file.", primary_key=True),
    *shared("run_id"),
    c.column("kind", c.TEXT, "`attribute`, `masked_answers`, `attacked_answers` or `path_scores`."),
    c.column("pass_key", c.TEXT, "Identity of the pass within its run: SHA-256 (hex) over its settings."),
    c.column("settings", c.TEXT, "Settings of the pass (JSON): the job that requests it."),
    c.column("n_wanted", c.ID, "Examples that the pass has to handle."),
    c.column("pass_status", c.TEXT, "`running`, or `sealed` once every example is committed or quarantined."),
    c.column("registered_at", c.TIME, "When the pass was registered.", volatile=True),
    c.column("finished_at", c.TIME, "When it was sealed; null while running.", nullable=True, volatile=True),
    key="pass_id",
)

ledger = table(
    "ledger",
    "Which examples of which pass are committed. Nothing else says so.",
    *shared("pass_id example_id", primary_key=True),
    *shared("run_id"),
    c.column("chunk", c.TEXT, "Name of the chunk whose transaction committed the example.", volatile=True),
    c.column("worker", c.TEXT, "Worker that computed the chunk.", volatile=True),
    c.column("seconds", c.FLOAT, "Compute time of the whole chunk, in seconds.", volatile=True),
    c.column("committed_at", c.TIME, "When the chunk was committed.", volatile=True),
    key="pass_id example_id",
)

quarantine = table(
    "quarantine",
    "Examples that failed every attempt of a pass, and why.",
    *shared("pass_id example_id", primary_key=True),
    *shared("run_id"),
    c.column("error", c.TEXT, "Name of the error."),
    c.column("message", c.TEXT, "What went wrong, in one line."),
    c.column("detail", c.TEXT, "More for the developer (traceback); may be empty.", volatile=True),
    c.column("attempts", c.SMALL, "Attempts made.", volatile=True),
    c.column("failed_at", c.TIME, "When the last attempt failed.", volatile=True),
    key="pass_id example_id",
)

examples = table(
    "examples",
    "The texts of a run's dataset split.",
    *shared("run_id example_id"),
    c.column("text_a", c.TEXT, "First (or only) text."),
    c.optional("text_b", c.TEXT, "Second text of a pair; null for single-text tasks."),
    c.optional("gold", c.SMALL, "Gold label id (index into runs.labels); null if unlabelled."),
    key="run_id example_id",
    written_by="register",
)

tokens = table(
    "tokens",
    "Tokens of every example as the model saw them, after truncation.",
    *shared("run_id example_id"),
    c.column("position", c.SMALL, "Position in the sequence, 0-based; query_pos and key_pos refer to it."),
    c.column("token_id", c.ID, "Token id (vocabulary.token_id under the run's tokenizer_key)."),
    c.optional("segment", c.SMALL, "0 = first text, 1 = second text, null = special token."),
    c.optional(
        "word",
        c.SMALL,
        "Word of its text that the token is a piece of, from 0, as the tokenizer splits texts into words;"
        " null for special tokens and in runs of an earlier release.",
    ),
    key="run_id example_id position",
    written_by="register",
)

vocabulary = table(
    "vocabulary",
    "Token strings of each tokenizer, shared by the runs that use it.",
    c.column("tokenizer_key", c.TEXT, "Which tokenizer (runs.tokenizer_key)."),
    c.column("token_id", c.ID, "Token id."),
    c.column("token", c.TEXT, "Token as the tokenizer writes it, for example `##ing`."),
    key="tokenizer_key token_id",
    written_by="register",
)

job_runs = table(
    "job_runs",
    "Every time a job was built, or failed to be.",
    c.column("job_run_id", c.ID, "Number of the attempt; never used twice in one file.", primary_key=True),
    c.column("job", c.TEXT, "Name of the job (jobs/sql)."),
    c.column("params", c.TEXT, "Its parameters (JSON)."),
    c.column("runs", c.TEXT, "Names of the runs it was built for (JSON)."),
    c.column("result", c.TEXT, "`built` or `failed`."),
    c.column("started_at", c.TIME, "When it began.", volatile=True),
    c.column("finished_at", c.TIME, "When it ended.", volatile=True),
    c.optional("rows", c.ID, "Rows of the table afterwards; for a pass, answers stored."),
    c.optional("error", c.TEXT, "Why it failed; null if it did not."),
    key="job_run_id",
)

job_builds = table(
    "job_builds",
    "What each job's rows of each run were last built from.",
    c.column("job", c.TEXT, "Name of the job (jobs/sql)."),
    *shared("run_id"),
    c.column(
        "build_key",
        c.TEXT,
        "Hash of the job's query, its parameters, runs.seals and the build keys of the jobs it depends on;"
        " another text if the job is to be built again.",
    ),
    c.column("params", c.TEXT, "Its parameters (JSON)."),
    key="job run_id",
)
