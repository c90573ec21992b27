"""Tables of facts: what workers compute, committed chunk by chunk."""

from __future__ import annotations

from sqlalchemy import ARRAY, REAL, Boolean

from attattr_batch.store.database import columns as c
from attattr_batch.store.database.columns import facts, shared

predictions = facts(
    "predictions",
    "The model's answer for every committed example.",
    "run_id example_id",
    c.optional("gold", c.SMALL, "Gold label id; null if unlabelled."),
    *shared("predicted"),
    *shared("prob_gold", nullable=True),
    c.column("prob_predicted", c.FLOAT, "Probability of the predicted label."),
    c.column("probabilities", ARRAY(REAL), "Probability of every label, in the dataset's id order."),
    c.column("n_tokens", c.SMALL, "Tokens of the sequence, special ones included."),
    c.column("truncated", Boolean(), "Whether tokens were cut to fit the length limit."),
)

head_scores = facts(
    "head_scores_dedup",
    "Per example and head: statistics of the attribution matrix Attr and of the attention matrix A.",
    "run_id example_id layer head target",
    c.column("attr_max", c.FLOAT, "Largest (signed) entry of Attr, special tokens and diagonal included."),
    c.optional(
        "attr_max_query", c.SMALL, "Its row: the attending token's position; null if it is not positive."
    ),
    c.optional(
        "attr_max_key", c.SMALL, "Its column: the attended token's position; null if it is not positive."
    ),
    c.column("attr_second", c.FLOAT, "Second largest entry of Attr."),
    c.optional("attr_second_query", c.SMALL, "Its row; null if it is not positive."),
    c.optional("attr_second_key", c.SMALL, "Its column; null if it is not positive."),
    c.column("attr_sum", c.FLOAT, "Sum of all entries of Attr."),
    c.column("attr_positive_sum", c.FLOAT, "Sum of the positive entries of Attr."),
    c.column("attn_max", c.FLOAT, "Largest entry of A."),
    c.column("attn_confidence", c.FLOAT, "Mean over query rows of the row's largest attention weight."),
    c.column("taylor", c.FLOAT, "|sum of A * dL/dA| of the head, L = cross-entropy of the attributed class."),
    c.optional(
        "taylor_released",
        c.FLOAT,
        "What the authors' script takes instead: the sum of all class scores (logits) in place of L, and the"
        " absolute value for each query position, summed over positions; the same for either target. Their"
        " importance of a head is its mean over examples, divided by the layer's L2 norm of those means. Null"
        " in runs of an earlier release.",
    ),
    c.optional(
        "grad_attn",
        c.FLOAT,
        "Sum of A * dF/dA of the head (gradient times attention), signed: to first order, what removing the"
        " head takes from F. Null in runs of an earlier release.",
    ),
    c.column("kept_mass", c.FLOAT, "Share of attr_positive_sum that the stored top-k edges hold, 0 to 1."),
)

layer_scores = facts(
    "layer_scores_dedup",
    "Per example and layer: both sides of completeness, how the integral was computed, scale of the tree.",
    "run_id example_id layer target",
    c.column(
        "f_full", c.FLOAT, "F(A): probability of the attributed class with the layer's attention intact."
    ),
    c.column("f_zero", c.FLOAT, "F(0): the same with the layer's attention scaled to zero."),
    c.column("completeness_error", c.FLOAT, "Sum of Attr over all heads, minus (f_full - f_zero)."),
    c.optional(
        "path_error",
        c.FLOAT,
        "Largest |completeness error| of the integrals from 0 to each node; null for a fixed rule.",
    ),
    c.optional(
        "agreement_error",
        c.FLOAT,
        "Largest change of a per-head maximum from the rule before, relative to the layer's largest entry;"
        " null for a fixed rule.",
    ),
    c.column("nodes", c.SMALL, "Nodes of the rule that was accepted."),
    c.optional(
        "certified",
        Boolean(),
        "Whether it met all that the adaptive rule asks for (docs/attribution.md); null for a fixed rule and"
        " in runs of an earlier release.",
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
)

target_scores = facts(
    "target_scores_dedup",
    "Per example and target: the class attributed and the top node of its attribution tree.",
    "run_id example_id target",
    c.column("label", c.SMALL, "Label id of the class attributed."),
    c.optional("tree_top", c.SMALL, "Position of the tree's top node; null if no token qualifies."),
    c.column(
        "tree_top_mass", c.FLOAT, "Row sum that chose the top node (all layers, scaled by their maximum)."
    ),
)

edges = facts(
    "edges_dedup",
    "Per example and head: the k edges with the largest attribution.",
    "run_id example_id layer head target",
    c.column("rank", c.SMALL, "Order within the head, 0 = largest attribution."),
    *shared("query_pos key_pos"),
    c.column("query_token", c.ID, "Token id at query_pos."),
    c.column("key_token", c.ID, "Token id at key_pos."),
    c.column("attr", c.FLOAT, "Attribution of the edge."),
    c.column("attn", c.FLOAT, "Attention weight of the edge."),
    more_key="rank",
)

layer_edges = facts(
    "layer_edges_dedup",
    "Per example and layer: edges of the head-summed attribution matrix above layer_scores.edge_floor; of"
    " more than the run's `edge_cap` (runs.config; default 512) the strongest.",
    "run_id example_id layer target query_pos key_pos",
    c.column("attr", c.FLOAT, "Attribution of the edge, summed over the layer's heads."),
)

attention_peaks = facts(
    "attention_peaks",
    "Per example: the two largest attention weights, between different tokens of the texts (special ones left"
    " out), of the head that has the largest. No rows of runs of an earlier release.",
    "run_id example_id",
    c.column("peak", c.SMALL, "0 = the largest, 1 = the second largest."),
    *shared("layer head query_pos key_pos"),
    c.column("attn", c.FLOAT, "Attention weight of the edge."),
    more_key="peak",
)

masked_answers = facts(
    "masked_answers",
    "The model's answers with attention heads removed, as requested by jobs. The columns from `criterion` to"
    " `head` say what the mask is; each job fills those it needs.",
    "run_id job example_id",
    c.optional("criterion", c.TEXT, "Criterion that chose the heads removed."),
    c.optional("direction", c.TEXT, "`largest_first` or `smallest_first`."),
    c.optional("draw", c.ID, "Number of the random order; 0 for every other criterion."),
    c.optional("step", c.ID, "How much is removed: tenths of all heads, or heads of each layer."),
    *shared("layer head", nullable=True),
    *shared("predicted"),
    *shared("prob_gold", nullable=True),
    *shared("logits", nullable=True),
    c.optional(
        "ablation",
        c.TEXT,
        "What stood in place of a removed head's context: `zero`, or `mean` (over some rows of the dataset)."
        " Null in answers of an earlier release: zero.",
    ),
    more_key="criterion direction draw step layer head",
)

attacked_answers = facts(
    "attacked_answers",
    "The model's answers with trigger tokens inserted, as requested by jobs.",
    "run_id job example_id",
    c.column("pattern", c.ID, "The pattern inserted; for a mined one, the example it was mined from."),
    c.column("control", Boolean(), "Whether random tokens stand in the places of the pattern's."),
    c.optional("draw", c.ID, "Number of the random draw; null for the pattern itself."),
    *shared("predicted"),
    *shared("prob_gold", nullable=True),
    *shared("logits", nullable=True),
    c.column("truncated", Boolean(), "Whether the length limit cut a trigger token off."),
    more_key="pattern control draw",
)

path_scores = facts(
    "path_scores",
    "Per example and head: attribution of the gold class along other paths than the paper's, from other"
    " baselines or with other weights, as requested by jobs. Always integrated adaptively, to a tolerance of"
    " 1e-3.",
    "run_id job example_id",
    c.column(
        "criterion",
        c.TEXT,
        "`attattr_uniform` (from uniform attention over real tokens), `attattr_mean` (from the mean context"
        " of each head), `attattr_head` (each head scaled alone) or `attattr_idg` (weighed by dF/dalpha).",
    ),
    *shared("layer head"),
    c.optional(
        "attr_max",
        c.FLOAT,
        "Largest (signed) entry of Attr, special tokens and diagonal included; null for `attattr_mean`, which"
        " has one number a head.",
    ),
    c.optional("attr_positive_sum", c.FLOAT, "Sum of the positive entries of Attr; null for `attattr_mean`."),
    c.column("attr_sum", c.FLOAT, "Sum of all entries of Attr."),
    c.column("f_full", c.FLOAT, "F(A): probability of the gold class with attention intact."),
    c.column(
        "f_zero",
        c.FLOAT,
        "F at the baseline: of the whole layer, for `attattr_head` with this head alone removed.",
    ),
    c.optional(
        "completeness_error",
        c.FLOAT,
        "Sum of Attr over all heads of the layer, for `attattr_head` of this head alone, minus (f_full -"
        " f_zero); null for `attattr_idg`, which promises no completeness.",
    ),
    c.column(
        "path_error",
        c.FLOAT,
        "Largest |completeness error| of the integrals of dF/dalpha from 0 to each node.",
    ),
    c.column("nodes", c.SMALL, "Nodes of the rule or mesh that was accepted."),
    c.column("certified", Boolean(), "Whether it met all that the adaptive rule asks for."),
    more_key="criterion layer head",
)
