"""Each audit is silent on good data and catches the offence it is for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from helpers.fabricate import commit, new_store, register
from sqlalchemy import Connection

from attattr_batch.analysis.audits import run_audits
from attattr_batch.errors import UserError
from attattr_batch.files import data_folder
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.sqlfile import load_folder
from attattr_batch.store.writing.passes import QuarantinedExample, quarantine_examples, seal_pass

# Audits of jobs' tables, which a store need not have, are tested in tests/jobs.
JOBS = {job.name for job in load_folder(data_folder("jobs") / "sql")}
AUDITS = {
    audit.name: audit
    for audit in load_folder(data_folder("jobs") / "audits")
    if not JOBS.intersection(audit.depends)
}

MASKED = (
    "INSERT INTO masked_answers BY NAME SELECT run_id, '{job}' AS job, example_id, {mask}, predicted,"
    " prob_gold + {shift} AS prob_gold FROM predictions WHERE ZERO"
)
ATTACKED = (
    "INSERT INTO attacked_answers BY NAME SELECT run_id, 'trigger_report' AS job, example_id, 7 AS pattern,"
    " draw IS NOT NULL AS control, draw, predicted, prob_gold, false AS truncated"
    " FROM predictions CROSS JOIN (SELECT unnest([NULL, 0, 1]) AS draw)"
    " WHERE run_id = 1 AND (example_id <> 3 OR {kept})"
)
# Answers of a pass that removes heads, of two examples of run 1: `{masks}` is a query that names the masks.
MASKS = (
    "INSERT INTO masked_answers BY NAME SELECT run_id, '{job}' AS job, example_id, m.*, predicted, prob_gold"
    " FROM predictions CROSS JOIN ({masks}) AS m WHERE run_id = 1 AND example_id < 2; "
)
ABLATED = MASKS.format(
    job="head_ablation",
    masks="SELECT NULL AS layer, NULL AS head UNION ALL FROM range(2) AS a(layer), range(3) AS b(head)",
)
REMOVED = MASKS.format(
    job="layerwise_accuracy",
    masks="FROM (SELECT unnest(['attattr', 'attention']) AS criterion),"
    " (SELECT unnest(['largest_first', 'smallest_first']) AS direction), range(4) AS a(step)",
)
PRUNED = MASKS.format(
    job="pruned_accuracy",
    masks="FROM (VALUES ('taylor', 0), ('random', 0), ('random', 1)) AS c(criterion, draw),"
    " range(11) AS a(step)",
)
# Answers of a pass that attributes along other paths, of the same examples.
PATHS = (
    "INSERT INTO path_scores BY NAME SELECT run_id, 'path_attribution' AS job, example_id, criterion, layer,"
    " head, if(criterion = 'attattr_mean', NULL, 0.2) AS attr_max,"
    " if(criterion = 'attattr_mean', NULL, 0.3) AS attr_positive_sum,"
    " if(criterion = 'attattr_head', 0, 0.1) AS attr_sum, prob_gold AS f_full,"
    " if(criterion = 'attattr_head', prob_gold, prob_gold - 0.3) AS f_zero,"
    " if(criterion = 'attattr_idg', NULL, 0) AS completeness_error, 0 AS path_error, 5 AS nodes,"
    " true AS certified FROM predictions CROSS JOIN range(2) AS a(layer) CROSS JOIN range(3) AS b(head)"
    " CROSS JOIN (SELECT unnest(['uniform', 'mean', 'head', 'idg']) AS variant),"
    " LATERAL (SELECT 'attattr_' || variant AS criterion) WHERE run_id = 1 AND example_id < 2; "
)
OF_HEADS = "criterion = 'attattr_head'"
# What the ledger says of those of head_ablation.
REQUESTED = (
    "INSERT INTO passes SELECT * REPLACE (9 AS pass_id, 'masked_answers' AS kind,"
    ' \'{"job": "head_ablation"}\' AS settings, 2 AS n_wanted) FROM passes WHERE pass_id = 1; '
    "INSERT INTO ledger SELECT * REPLACE (9 AS pass_id) FROM ledger WHERE pass_id = 1 AND example_id < 2; "
)

# By audit: statements that spoil the data, and how many rows the audit then returns (0: it must not mind).
# ZERO and ONE are examples 0 and 1 of run 1, whose gold and predicted class coincide; its only misclassified
# one is example 3.
OFFENCES: dict[str, list[tuple[str, int]]] = {
    "completeness": [
        ("UPDATE layer_scores_dedup SET completeness_error = -0.002 WHERE example_id = 3", 4),
        ("UPDATE layer_scores_dedup SET certified = false WHERE example_id = 3", 4),
        ("UPDATE layer_scores_dedup SET certified = NULL", 0),
        # Errors along the path that cancel at its end.
        ("UPDATE layer_scores_dedup SET path_error = 0.002 WHERE example_id = 3", 4),
    ],
    "ledger_and_facts": [
        ("DELETE FROM head_scores_dedup WHERE ZERO AND head = 0", 1),
        ("DELETE FROM ledger WHERE ZERO", 1),
        ("INSERT INTO predictions SELECT * REPLACE (99 AS example_id) FROM predictions", 3),
        # As many rows as there should be, of other examples or targets.
        ("UPDATE head_scores_dedup SET example_id = 99 WHERE ZERO", 2),
        ("UPDATE layer_scores_dedup SET example_id = 1 WHERE ZERO AND layer = 0", 2),
        ("UPDATE target_scores_dedup SET target = 'gold' WHERE run_id = 3 AND example_id = 1", 1),
        ("INSERT INTO edges_dedup SELECT * REPLACE (99 AS example_id) FROM edges_dedup WHERE ZERO", 1),
        ("INSERT INTO layer_edges_dedup SELECT * REPLACE (9 AS run_id) FROM layer_edges_dedup", 6),
    ],
    "ledger_and_answers": [
        (REQUESTED + ABLATED, 0),
        (REQUESTED, 2),
        (ABLATED, 2),
        (REQUESTED + ABLATED + "DELETE FROM ledger WHERE pass_id = 9 AND example_id = 1", 1),
        (REQUESTED + ABLATED + "DELETE FROM masked_answers WHERE example_id = 1", 1),
        # Another job's answers are not those requested.
        (REQUESTED + ABLATED + "UPDATE masked_answers SET job = 'pruned_accuracy' WHERE ZERO", 2),
        (PATHS, 2),
        (ATTACKED.format(kept="true"), 6),
    ],
    "masks_are_answered": [
        (ABLATED + REMOVED + PRUNED, 0),
        (ABLATED + "DELETE FROM masked_answers WHERE ZERO AND layer IS NULL", 1),
        (ABLATED + "DELETE FROM masked_answers WHERE layer = 1 AND head = 2", 2),
        (
            REMOVED + "DELETE FROM masked_answers WHERE ZERO AND criterion = 'attattr' AND step = 2"
            " AND direction = 'largest_first'",
            1,
        ),
        (REMOVED + "DELETE FROM masked_answers WHERE criterion = 'attention' AND step = 1", 2),
        (PRUNED + "DELETE FROM masked_answers WHERE ZERO AND draw = 1 AND step = 10", 1),
        (PRUNED + "DELETE FROM masked_answers WHERE criterion = 'taylor' AND step = 0", 2),
        (
            PRUNED + "INSERT INTO masked_answers FROM masked_answers"
            " WHERE ZERO AND criterion = 'taylor' AND step = 3",
            1,
        ),
    ],
    "tokens_are_complete": [
        ("DELETE FROM tokens WHERE run_id = 1 AND position = 2", 6),
        ("DELETE FROM tokens WHERE ZERO", 1),
        ("UPDATE tokens SET position = 7 WHERE ZERO AND position = 2", 1),
        ("INSERT INTO tokens FROM tokens WHERE ZERO AND position = 2", 1),
    ],
    "sealed_is_complete": [
        ("DELETE FROM ledger WHERE ZERO", 1),
        ("DELETE FROM quarantine", 1),
        ("UPDATE passes SET pass_status = 'sealed'", 1),
    ],
    "unique_keys": [
        ("INSERT INTO head_scores_dedup FROM head_scores_dedup WHERE example_id = 3 AND head = 1", 4),
        ("INSERT INTO layer_scores_dedup FROM layer_scores_dedup WHERE example_id = 3", 4),
        ("INSERT INTO target_scores_dedup FROM target_scores_dedup WHERE example_id = 3", 2),
        ("INSERT INTO predictions FROM predictions WHERE example_id = 3", 1),
        ("INSERT INTO examples FROM examples WHERE run_id = 1 AND example_id = 3", 1),
        ("INSERT INTO tokens FROM tokens WHERE run_id = 1 AND position = 4", 7),
        # Beyond the bits of one group of positions.
        ("UPDATE tokens SET position = position + 126 WHERE run_id = 1 AND position = 4", 0),
        ("INSERT INTO vocabulary FROM vocabulary WHERE token_id = 3", 1),
        (ABLATED + REMOVED + PRUNED, 0),
        (ABLATED + "INSERT INTO masked_answers FROM masked_answers WHERE ZERO", 7),
        (ATTACKED.format(kept="true") + "; INSERT INTO attacked_answers FROM attacked_answers", 18),
        (PATHS, 0),
        (PATHS + "UPDATE path_scores SET head = 0 WHERE ZERO AND layer = 1 AND head = 1", 4),
        # The same numbers under `both` and `gold` would be two answers for gold.
        (
            "INSERT INTO target_scores_dedup SELECT * REPLACE ('gold' AS target) FROM"
            " target_scores_dedup WHERE ZERO",
            1,
        ),
    ],
    "unique_edges": [
        ("UPDATE edges_dedup SET rank = 0 WHERE ZERO", 6),
        ("UPDATE edges_dedup SET key_pos = 1 WHERE ZERO", 6),
        ("INSERT INTO layer_edges_dedup FROM layer_edges_dedup WHERE example_id = 3", 4),
    ],
    "finite_numbers": [
        ("UPDATE head_scores_dedup SET taylor = 'nan' WHERE example_id = 3 AND head = 1", 4),
        ("UPDATE head_scores_dedup SET taylor_released = 'nan' WHERE example_id = 3 AND head = 1", 4),
        ("UPDATE head_scores_dedup SET taylor_released = NULL", 0),
        ("UPDATE head_scores_dedup SET attr_second = 'inf' WHERE example_id = 3 AND head = 1", 4),
        ("UPDATE layer_scores_dedup SET agreement_error = 'nan' WHERE example_id = 3", 4),
        ("UPDATE target_scores_dedup SET tree_top_mass = 'nan' WHERE example_id = 3", 2),
        ("UPDATE edges_dedup SET attr = '-inf' WHERE example_id = 3 AND head = 0 AND rank = 1", 4),
        ("UPDATE layer_edges_dedup SET attr = 'nan' WHERE example_id = 3", 4),
        (MASKED.format(job="head_ablation", mask="1 AS layer, 0 AS head", shift="'nan'::FLOAT"), 1),
        (ATTACKED.format(kept="true") + "; UPDATE attacked_answers SET prob_gold = 'inf' WHERE ZERO", 3),
        (PATHS, 0),
        (PATHS + "UPDATE path_scores SET path_error = 'nan' WHERE ZERO AND head = 1", 8),
        (PATHS + "UPDATE path_scores SET attr_max = 'inf' WHERE ZERO AND attr_max IS NOT NULL", 18),
    ],
    "probabilities": [
        ("UPDATE predictions SET probabilities = [0.3, 0.8] WHERE ONE", 1),
        ("UPDATE predictions SET probabilities = [-0.25, 1.25] WHERE ONE", 1),
        ("UPDATE predictions SET probabilities = ['nan'::FLOAT, 0.75] WHERE ONE", 1),
        ("UPDATE predictions SET probabilities = [NULL, 0.75] WHERE ONE", 1),
        ("UPDATE predictions SET probabilities = [0.25, 0.5, 0.25] WHERE run_id = 1 AND gold = 1", 3),
        ("UPDATE predictions SET predicted = 0 WHERE ONE", 1),
        ("UPDATE predictions SET predicted = 7 WHERE ONE", 1),
        ("UPDATE predictions SET prob_gold = 0.5 WHERE ONE", 1),
        ("UPDATE predictions SET prob_gold = NULL WHERE ONE", 1),
        ("UPDATE predictions SET prob_predicted = 0.5 WHERE ONE", 1),
    ],
    "layer_and_head_range": [
        ("UPDATE head_scores_dedup SET layer = 2 WHERE ZERO", 3),
        ("UPDATE edges_dedup SET head = 3 WHERE run_id = 1 AND head = 0", 2),
        ("UPDATE layer_edges_dedup SET layer = -1 WHERE run_id = 1 AND layer = 0", 1),
        (PATHS + "UPDATE path_scores SET head = 3 WHERE ZERO AND layer = 1", 1),
    ],
    "kept_mass": [
        ("UPDATE head_scores_dedup SET kept_mass = 1.01 WHERE ZERO", 6),
        ("UPDATE head_scores_dedup SET kept_mass = 'nan' WHERE ZERO", 6),
        ("UPDATE layer_scores_dedup SET kept_mass = -0.1 WHERE ZERO", 2),
    ],
    "target_follows_prediction": [
        ("UPDATE target_scores_dedup SET label = 1 - label WHERE example_id = 3", 2),
        ("UPDATE target_scores_dedup SET target = 'both' WHERE target = 'gold'", 1),
    ],
    "attacks_have_controls": [
        (ATTACKED.format(kept="true"), 0),
        (ATTACKED.format(kept="draw IS NOT NULL"), 1),
        (ATTACKED.format(kept="draw IS DISTINCT FROM 1"), 1),
        (ATTACKED.format(kept="true") + "; DELETE FROM attacked_answers WHERE control", 6),
    ],
    "clean_mask_is_prediction": [
        (MASKED.format(job="head_ablation", mask="NULL AS layer", shift="0.01"), 1),
        (MASKED.format(job="pruned_accuracy", mask="'taylor' AS criterion, 0 AS step", shift="0.01"), 1),
        (MASKED.format(job="layerwise_accuracy", mask="'attattr' AS criterion, 0 AS step", shift="0.01"), 1),
        (MASKED.format(job="head_ablation", mask="NULL AS layer", shift="'nan'::FLOAT"), 1),
        # What is not clean may differ, and what is may differ by rounding.
        (MASKED.format(job="head_ablation", mask="1 AS layer, 0 AS head", shift="0.01"), 0),
        (MASKED.format(job="pruned_accuracy", mask="'taylor' AS criterion, 10 AS step", shift="0.01"), 0),
        (MASKED.format(job="layerwise_accuracy", mask="'attattr' AS criterion, 10 AS step", shift="0.01"), 0),
        (MASKED.format(job="pruned_accuracy", mask="'taylor' AS criterion, 0 AS step", shift="0.0005"), 0),
    ],
    "path_scores_are_answered": [
        (PATHS, 0),
        (PATHS + "DELETE FROM path_scores WHERE ZERO AND layer = 1 AND head = 2 AND " + OF_HEADS, 1),
        (PATHS + "DELETE FROM path_scores WHERE ZERO AND " + OF_HEADS, 1),
        (PATHS + "DELETE FROM path_scores WHERE " + OF_HEADS, 0),
        (PATHS + "DELETE FROM path_scores WHERE head = 1", 2),
        (PATHS + "UPDATE path_scores SET head = 0 WHERE ZERO AND layer = 1 AND head = 1", 1),
    ],
    "path_scores_are_complete": [
        (PATHS, 0),
        (PATHS + "UPDATE path_scores SET attr_sum = 0.2 WHERE ZERO AND head = 1 AND " + OF_HEADS, 2),
        (
            PATHS + "UPDATE path_scores SET attr_sum = 0.2"
            " WHERE ZERO AND layer = 1 AND head = 1 AND criterion = 'attattr_mean'",
            3,
        ),
        (PATHS + "UPDATE path_scores SET attr_sum = 0.2 WHERE criterion = 'attattr_idg'", 0),
        (PATHS + "UPDATE path_scores SET path_error = 0.002 WHERE ZERO AND head = 1", 8),
        (PATHS + "UPDATE path_scores SET path_error = 0.002, certified = false WHERE ZERO", 0),
        (
            PATHS
            + "UPDATE path_scores SET attr_sum = 0.002, completeness_error = 0.002 WHERE ZERO AND "
            + OF_HEADS,
            6,
        ),
        (PATHS + "UPDATE path_scores SET completeness_error = NULL WHERE ZERO AND " + OF_HEADS, 6),
        (PATHS + "UPDATE path_scores SET attr_max = 0 WHERE ZERO", 6),
        (PATHS + "UPDATE path_scores SET criterion = 'attattr' WHERE ZERO AND " + OF_HEADS, 6),
    ],
    "path_scores_start_clean": [
        (PATHS, 0),
        (PATHS + "UPDATE path_scores SET f_full = f_full + 0.01 WHERE ZERO", 8),
        (PATHS + "UPDATE path_scores SET f_zero = f_zero + 0.01 WHERE ZERO AND head = 1", 6),
    ],
    "head_paths_match_ablation": [
        (PATHS + ABLATED, 0),
        (PATHS + ABLATED + "UPDATE path_scores SET f_zero = f_zero + 0.01 WHERE ZERO AND head = 1", 2),
        (PATHS + ABLATED + "UPDATE masked_answers SET prob_gold = 0 WHERE layer = 1 AND head = 2", 2),
        (
            PATHS + ABLATED + "UPDATE masked_answers SET prob_gold = 0, ablation = 'mean'"
            " WHERE layer = 1 AND head = 2",
            0,
        ),
    ],
    "f_full_is_probability": [
        ("UPDATE layer_scores_dedup SET f_full = f_full + 0.01 WHERE example_id = 3", 4),
    ],
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A sealed run with a quarantined example, a running one, and a sealed one of a fixed rule."""
    one = new_store(tmp_path_factory.mktemp("audits"))
    _, first = register(one, 7, "first")
    commit(one, first, range(6))
    quarantine_examples(one, first, [QuarantinedExample(example_id=6, error="E", message="m")])
    seal_pass(one, first)
    _, second = register(one, 8, "second", targets="gold")
    commit(one, second, range(2), "gold")
    _, third = register(
        one, 2, "third", targets="predicted", quadrature="midpoint", fixed_nodes=3, tolerance=1e-9
    )
    commit(one, third, range(2), "predicted")
    seal_pass(one, third)
    return one


def offenders(connection: Connection) -> dict[str, int]:
    """How many rows each audit returns; audits without any are left out."""
    counts = {name: len(connection.exec_driver_sql(audit.query).all()) for name, audit in AUDITS.items()}
    return {name: count for name, count in counts.items() if count}


def test_every_audit_is_silent_on_good_data(store: Store) -> None:
    with store.read() as connection:
        assert offenders(connection) == {}


def test_every_audit_is_silent_on_an_empty_store(tmp_path: Path) -> None:
    with new_store(tmp_path).read() as connection:
        assert offenders(connection) == {}


@pytest.mark.parametrize("name", AUDITS)
def test_every_offence_is_caught(store: Store, name: str) -> None:
    assert OFFENCES[name]
    for offence, n_rows in OFFENCES[name]:
        spoil = offence.replace("ZERO", "run_id = 1 AND example_id = 0")
        with pytest.raises(RuntimeError, match="undo"), store.write() as connection:
            connection.exec_driver_sql(spoil.replace("ONE", "run_id = 1 AND example_id = 1"))
            found = connection.exec_driver_sql(AUDITS[name].query).all()
            assert len(found) == n_rows, (offence, found)
            raise RuntimeError("undo")


def test_a_folder_without_audits_is_refused(store: Store, tmp_path: Path) -> None:
    for folder in (tmp_path / "audtis", tmp_path):
        with pytest.raises(UserError, match=r"(?s)no audits there.*allowed: a folder with \*\.sql files"):
            run_audits(store, folder)


def test_of_many_offending_rows_the_first_are_fetched(store: Store, tmp_path: Path) -> None:
    for name, query in (
        ("many", "SELECT range AS n, 'x' AS why FROM range(1000000)  -- and a last remark"),
        ("few", "SELECT range AS n FROM range(2)"),
    ):
        text = f"-- name: {name}\n-- description: For a test.\n{query}\n"
        (tmp_path / f"{name}.sql").write_text(text, encoding="utf-8")
    results, _ = run_audits(store, tmp_path)
    few, many = sorted(results, key=lambda one: one.name)
    assert (many.n_rows, len(many.rows), many.columns, many.rows[1]) == (1000000, 20, ("n", "why"), (1, "x"))
    assert (few.n_rows, few.rows) == (2, ((0,), (1,)))
    # Rows of Python that are not shown would be kept for nothing.
    tracemalloc.start()
    run_audits(store, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()
