from __future__ import annotations

from pathlib import Path

import pytest

from attattr_batch.analysis import dictionary
from attattr_batch.analysis.jobs import load_catalogue


def test_the_dictionary_is_up_to_date() -> None:
    assert dictionary.main(["--check"]) == 0, "run `make docs`"


def test_a_change_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = dictionary.dictionary_markdown()
    (tmp_path / "README.md").write_text(text.replace("Largest", "Smallest").replace("0.4", "0.5"))
    monkeypatch.setattr(dictionary, "data_folder", lambda name: tmp_path)
    monkeypatch.setattr(dictionary, "dictionary_markdown", lambda: text)
    assert dictionary.main(["--check"]) == 1
    assert dictionary.main(["--write"]) == 0
    assert dictionary.main(["--check"]) == 0


def test_every_job_has_its_section() -> None:
    text = dictionary.dictionary_markdown()
    for name, job in load_catalogue().jobs.items():
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        for parameter in job.parameters:
            assert f"| {parameter} |" in section
        for audit in job.audits:
            assert f"*{audit}*" in section
