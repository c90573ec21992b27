"""The first schema: runs, passes, ledger, examples and attribution facts.

Revision: 0001, after nothing.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

INT, SMALL = sa.Integer(), sa.SmallInteger()
FLOAT, TEXT, TIME = sa.REAL(), sa.String(), sa.TIMESTAMP(timezone=True)


def _needed(name, type_):
    return sa.Column(name, type_, nullable=False, autoincrement=False)


def _optional(name, type_):
    return sa.Column(name, type_, nullable=True)


def upgrade() -> None:
    _create_bookkeeping()
    _create_inputs()
    _create_facts()


def downgrade() -> None:
    raise NotImplementedError("go back to a snapshot")


def _create_bookkeeping() -> None:
    op.create_table(
        "meta",
        _needed("key", TEXT),
        _needed("value", TEXT),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "runs",
        _needed("run_id", INT),
        _needed("name", TEXT),
        _needed("run_key", TEXT),
        _needed("labels", sa.ARRAY(TEXT)),
        _needed("task", TEXT),
        _needed("split", TEXT),
        _needed("model", TEXT),
        _needed("family", TEXT),
        _needed("n_layers", SMALL),
        _needed("n_heads", SMALL),
        _needed("n_examples", INT),
        _needed("target", TEXT),
        _needed("quadrature", TEXT),
        _optional("nodes", SMALL),
        _needed("tolerance", sa.DOUBLE()),
        _needed("dtype", TEXT),
        _needed("status", TEXT),
        _needed("tokenizer_key", TEXT),
        _needed("config", TEXT),
        _needed("identity", TEXT),
        _needed("provenance", TEXT),
        _needed("created_at", TIME),
        _optional("sealed_at", TIME),
        sa.PrimaryKeyConstraint("run_id"),
    )
    op.create_table(
        "passes",
        _needed("pass_id", INT),
        _needed("run_id", INT),
        _needed("kind", TEXT),
        _needed("pass_key", TEXT),
        _needed("config", TEXT),
        _needed("n_examples", INT),
        _needed("status", TEXT),
        _needed("created_at", TIME),
        _optional("sealed_at", TIME),
        sa.PrimaryKeyConstraint("pass_id"),
    )
    op.create_table(
        "ledger",
        _needed("pass_id", INT),
        _needed("example_id", INT),
        _needed("run_id", INT),
        _needed("chunk", TEXT),
        _needed("worker", TEXT),
        _needed("seconds", FLOAT),
        _needed("committed_at", TIME),
        sa.PrimaryKeyConstraint("pass_id", "example_id"),
    )
    op.create_table(
        "failures",
        _needed("pass_id", INT),
        _needed("example_id", INT),
        _needed("run_id", INT),
        _needed("kind", TEXT),
        _needed("message", TEXT),
        _needed("detail", TEXT),
        _needed("attempts", SMALL),
        _needed("failed_at", TIME),
        sa.PrimaryKeyConstraint("pass_id", "example_id"),
    )


def _create_inputs() -> None:
    op.create_table(
        "examples",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("text_a", TEXT),
        _optional("text_b", TEXT),
        _optional("gold", SMALL),
    )
    op.create_table(
        "tokens",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("position", SMALL),
        _needed("token_id", INT),
        _optional("segment", SMALL),
    )
    op.create_table(
        "vocabulary",
        _needed("tokenizer_key", TEXT),
        _needed("token_id", INT),
        _needed("token", TEXT),
    )


def _create_facts() -> None:
    op.create_table(
        "predictions",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _optional("gold", SMALL),
        _needed("predicted", SMALL),
        _optional("prob_gold", FLOAT),
        _needed("prob_predicted", FLOAT),
        _needed("probabilities", sa.ARRAY(FLOAT)),
        _needed("n_tokens", SMALL),
        _needed("truncated", sa.Boolean()),
    )
    op.create_table(
        "head_scores_stored",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("layer", SMALL),
        _needed("head", SMALL),
        _needed("target", TEXT),
        _needed("attr_max", FLOAT),
        _optional("attr_max_query", SMALL),
        _optional("attr_max_key", SMALL),
        _needed("attr_second", FLOAT),
        _optional("attr_second_query", SMALL),
        _optional("attr_second_key", SMALL),
        _needed("attr_sum", FLOAT),
        _needed("attr_positive_sum", FLOAT),
        _needed("attn_max", FLOAT),
        _needed("attn_confidence", FLOAT),
        _needed("taylor", FLOAT),
        _needed("kept_mass", FLOAT),
    )
    op.create_table(
        "layer_scores_stored",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("layer", SMALL),
        _needed("target", TEXT),
        _needed("f_full", FLOAT),
        _needed("f_zero", FLOAT),
        _needed("completeness_error", FLOAT),
        _optional("path_error", FLOAT),
        _optional("agreement_error", FLOAT),
        _needed("nodes", SMALL),
        _needed("off_first_max", FLOAT),
        _needed("edge_floor", FLOAT),
        _needed("kept_mass", FLOAT),
    )
    op.create_table(
        "target_scores_stored",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("target", TEXT),
        _needed("label", SMALL),
        _optional("tree_top", SMALL),
        _needed("tree_top_mass", FLOAT),
    )
    op.create_table(
        "edges_stored",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("layer", SMALL),
        _needed("head", SMALL),
        _needed("target", TEXT),
        _needed("rank", SMALL),
        _needed("query_pos", SMALL),
        _needed("key_pos", SMALL),
        _needed("query_token", INT),
        _needed("key_token", INT),
        _needed("attr", FLOAT),
        _needed("attn", FLOAT),
    )
    op.create_table(
        "layer_edges_stored",
        _needed("run_id", INT),
        _needed("example_id", INT),
        _needed("layer", SMALL),
        _needed("target", TEXT),
        _needed("query_pos", SMALL),
        _needed("key_pos", SMALL),
        _needed("attr", FLOAT),
    )
