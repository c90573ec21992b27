from __future__ import annotations

import jobs_reference

from attattr_batch.analysis.catalogue import load_catalogue


def test_every_job_has_its_section() -> None:
    text = jobs_reference.reference_markdown()
    for name, job in load_catalogue().jobs.items():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        for parameter in job.parameters:
            assert f"| {parameter} |" in section
        for audit in job.audits:
            assert f"*{audit}*" in section
