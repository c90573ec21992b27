from __future__ import annotations

from attattr_batch.analysis import job_dictionary as dictionary
from attattr_batch.analysis.catalogue import load_catalogue


def test_every_job_has_its_section() -> None:
    text = dictionary.dictionary_markdown()
    for name, job in load_catalogue().jobs.items():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        for parameter in job.parameters:
            assert f"| {parameter} |" in section
        for audit in job.audits:
            assert f"*{audit}*" in section
