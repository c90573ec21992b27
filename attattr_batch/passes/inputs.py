"""What a run is planned from: the files of its model and its rows.

They are known without torch and transformers, which take seconds to import. So a run that was planned from
the same before, and is finished, is recognised at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from attattr_batch.data.records import Dataset
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.identity import IDENTITY_VERSION, content_key
from attattr_batch.spec import RunSpec

_PLANNERS = ("attattr-batch", "transformers", "tokenizers")


@dataclass(frozen=True)
class RunInputs:
    """The model and the rows of a run, found and read.

    Attributes:
        spec: The settings.
        source: The model, pinned.
        dataset: The rows.
    """

    spec: RunSpec
    source: ModelSource
    dataset: Dataset

    def key(self) -> str:
        """Hash of all that decides a run's identity: with an equal key, planning finds the same run.

        Runs with different keys may be the same run as well, for example after an upgrade of transformers.
        """
        return content_key(
            {
                "identity_version": IDENTITY_VERSION,
                "planners": [installed_version(name) for name in _PLANNERS],
                "model": self.source.identity(),
                "tokenizer": self.source.hash_beside_weights(),
                "dataset": [self.dataset.task, self.dataset.split, self.dataset.revision],
                "rows": self.dataset.fingerprint(),
                "part": self.spec.data.part,
                "label_map": self.spec.label_map,
                "method": self.spec.method.model_dump(mode="json"),
            }
        )


def find_inputs(spec: RunSpec) -> RunInputs:
    """Finds the model of a run, and reads its rows.

    Raises:
        UserError: there is no such model, or the rows cannot be used.
    """
    source = find_model(spec.model, task=spec.data.task, revision=spec.revision).pinned()
    return RunInputs(spec, source, load_dataset_for(spec.data))


def installed_version(name: str) -> str:
    """The version of a package; from a checkout that is not installed, this one has none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
