"""Every job and audit on rows small enough to be worked out by hand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers.worksheet import Worksheet, assert_rows, load_cases, read_table

from attattr_batch.analysis.audits import offending_rows
from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import raw
from attattr_batch.store.database.tables import metadata, query_name

HERE = Path(__file__).parent
CASES = load_cases(HERE / "cases")
AUDITS = load_cases(HERE)["audits"]
CATALOGUE = load_catalogue()
NAMED = [
    pytest.param(job, case, id=f"{job}: {case['name']}") for job, cases in CASES.items() for case in cases
]


@pytest.fixture(scope="module")
def worksheet() -> Worksheet:
    return Worksheet()


def test_every_job_has_a_case_and_an_audit() -> None:
    assert set(CASES) == set(CATALOGUE.jobs)
    assert all(CASES.values())
    assert [
        name for name, job in CATALOGUE.jobs.items() if not (job.audits or job.materialized == "view")
    ] == []


@pytest.mark.parametrize(("job", "case"), NAMED)
def test_case(worksheet: Worksheet, job: str, case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(StoreError, match=re.escape(case["error"])):
            worksheet.answer(worksheet.catalogue.job(job), case)
        return
    expected = read_table(case["expect"])
    found = worksheet.answer(worksheet.catalogue.job(job), case)
    if "ask" not in case:
        described = set(worksheet.catalogue.job(job).file.columns)
        assert found, "no rows"
        assert described <= set(found[0]), "a described column is not made"
    assert_rows(found, expected)


def test_a_jobs_table_can_be_joined_to_runs_without_aliases(worksheet: Worksheet) -> None:
    query = """
    SELECT c.table_name, c.column_name
    FROM duckdb_columns() AS c
    SEMI JOIN (SELECT column_name FROM duckdb_columns() WHERE table_name = 'runs') USING (column_name)
    SEMI JOIN (SELECT table_name FROM duckdb_columns() WHERE column_name = 'run_id') USING (table_name)
    WHERE c.column_name NOT IN ('run_id', 'tokenizer_key') AND c.table_name NOT IN ('runs', 'selected_runs')
    """
    with worksheet.filled({}) as connection:
        assert raw(connection).execute(query).fetchall() == []


def test_every_audit_of_a_job_has_an_offence() -> None:
    own = {query_name(table) for table in metadata.tables.values()}
    about_jobs = {name for name, audit in CATALOGUE.audits.items() if set(audit.depends) - own}
    assert about_jobs <= set(AUDITS)
    named = {name for job in CATALOGUE.jobs.values() for name in job.audits}
    # The others are about the store's own tables: tests/store/test_store_audits.py.
    of_paths = {"path_scores_are_answered", "path_scores_are_complete", "path_scores_start_clean"}
    of_masks = {"clean_mask_is_prediction", "masks_are_answered", "head_paths_match_ablation"}
    assert named - set(AUDITS) == of_paths | of_masks | {"attacks_have_controls"}
    assert all(audit["offences"] for audit in AUDITS.values())


@pytest.mark.parametrize("name", AUDITS)
def test_audit_accepts_good_rows_and_no_rows(worksheet: Worksheet, name: str) -> None:
    query = CATALOGUE.audits[name].query
    with worksheet.filled({}) as connection:
        assert offending_rows(connection, query, 99).to_pylist() == []
    with worksheet.filled(AUDITS[name]["given"]) as connection:
        assert offending_rows(connection, query, 99).to_pylist() == []


@pytest.mark.parametrize(
    ("name", "offence"), [(name, offence) for name, audit in AUDITS.items() for offence in audit["offences"]]
)
def test_audit_catches(worksheet: Worksheet, name: str, offence: str) -> None:
    with worksheet.filled(AUDITS[name]["given"]) as connection:
        raw(connection).execute(offence)
        found = offending_rows(connection, CATALOGUE.audits[name].query, 99)
        assert found.num_rows == AUDITS[name]["offences"][offence], found.to_pylist()
