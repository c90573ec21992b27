"""Finds a model: a folder, a hub repository, or a bundled one. Safetensors only; nothing here loads torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from attattr_batch.errors import UserError
from attattr_batch.files import bundled_folder, user_path
from attattr_batch.identity import content_key
from attattr_batch.spec import BUNDLED

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model")
"""All that a model is loaded from; checkpoints also hold optimizer states, pickles and logs."""
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is; the driver finds out once and tells every worker.

    Attributes:
        name: As the user wrote it.
        folder: Local folder with its files.
        hub_id: Hub repository, or None for a local folder.
        commit: Commit hash of the hub repository, or None.
        sha256: Hash of configuration and weights in a local folder, once `pinned`.
    """

    name: str
    folder: Path
    hub_id: str | None = None
    commit: str | None = None
    sha256: str | None = None

    @property
    def address(self) -> str:
        """A name under which the model is found from any working folder."""
        return self.name if self.name == BUNDLED or self.hub_id is not None else str(self.folder)

    def pinned(self) -> ModelSource:
        """The same model with its hash, so that other files in its folder are noticed later."""
        return self if self.hub_id is not None else replace(self, sha256=self._hash())

    def identity(self) -> dict[str, str]:
        """What makes this model the same model: the commit, or the hash of configuration and weights."""
        if self.hub_id is not None and self.commit is not None:
            return {"hub": self.hub_id, "commit": self.commit}
        return {"sha256": self.sha256 or self._hash()}

    def is_here(self) -> bool:
        """Whether this machine has the model: its folder, with the same files if it is pinned."""
        if self.hub_id is not None:
            return True  # `fetched` gets it
        try:
            return self.folder.is_dir() and self.sha256 in (None, self._hash())
        except (OSError, ValueError):
            return False

    def files(self) -> list[Path]:
        """Its files here, for a machine that lacks them; none for a hub model, which each machine fetches."""
        return [] if self.hub_id is not None else model_files(self.folder)

    def _hash(self) -> str:
        return _hash_files([self.folder / "config.json", *weight_files(self.folder)])

    def hash_beside_weights(self) -> str:
        """Hash of its files beside the weights, names included: they decide the tokens of a text."""
        texts = sorted(set(model_files(self.folder)).difference(weight_files(self.folder)))
        return content_key([[path.name, _hash_files([path])] for path in texts])

    def fetched(self) -> ModelSource:
        """The same model on this machine: a hub model is fetched here if its folder is elsewhere."""
        if self.folder.is_dir() or self.hub_id is None:
            return self
        return ModelSource(self.name, _download(self.hub_id, self.commit), self.hub_id, self.commit)


def find_model(name: str, *, task: str | None = None, revision: str | None = None) -> ModelSource:
    """Finds a model by folder, hub id, or `bundled` (the tiny model of the task).

    Raises:
        UserError: there is no such model, or it has no safetensors weights.
    """
    path = user_path(name)
    local = name == BUNDLED or path.exists() or name.startswith((".", "/", "~"))
    if local and revision is not None:
        raise UserError("only a hub model has a revision", got=f"{revision} of {name}")
    if name == BUNDLED:
        models = {path.name: path for path in (bundled_folder() / "models").iterdir()}
        if task not in models:
            allowed = ", ".join(sorted(models))
            raise UserError("a bundled model needs its task", got=task or "no `task`", allowed=allowed)
        source = ModelSource(name, models[task])
    elif local:
        source = ModelSource(name, path.resolve())
    else:
        folder = _download(name, revision)
        source = ModelSource(name, folder, name, folder.name)
    _check_folder(source)
    return source


def model_files(folder: Path) -> list[Path]:
    """Those files of a folder that a model is loaded from."""
    return sorted(path for pattern in MODEL_FILES for path in folder.glob(pattern) if path.is_file())


def _download(hub_id: str, revision: str | None) -> Path:
    # Imported here, for a model in a folder does without it: it takes a quarter of a second.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
    from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]
    from huggingface_hub.errors import RevisionNotFoundError as RevisionNotFound

    try:
        # Sub-folders hold the same model in other formats, or earlier checkpoints.
        return Path(
            snapshot_download(
                hub_id, revision=revision, allow_patterns=list(MODEL_FILES), ignore_patterns=["*/*"]
            )
        )
    except HFValidationError as error:
        raise UserError("not a folder and not a hub id", got=hub_id, allowed="DIR or org/name") from error
    except RevisionNotFound as error:
        raise UserError("the hub has no such revision of the model", got=f"{hub_id}@{revision}") from error
    except GatedRepoError as error:
        hint = "ask for access on the model's page and log in (`hf auth login`)"
        raise UserError("the model is gated on the hub", got=hub_id, hint=hint) from error
    except RepositoryNotFoundError as error:
        raise UserError("no such folder, and no such model on the hub", got=hub_id) from error
    except (OSError, ClientError) as error:
        raise UserError(
            "no such folder, and the hub cannot be reached for it",
            got=f"{hub_id}: {str(error.__cause__ or error).splitlines()[0]}",
            hint="check the path; offline, only models in the hub's cache can be used",
        ) from error


def refuse_unhashed_weights(folder: Path) -> None:
    """Refuses a folder for which transformers would load weights from elsewhere: they would not be hashed.

    Raises:
        UserError: it holds an adapter, whose base model is elsewhere, or an index of shards elsewhere.
    """
    adapter = folder / "adapter_config.json"
    if adapter.exists():
        raise UserError(
            "the model folder holds an adapter (LoRA, say), which changes a base model that is elsewhere",
            got=adapter,
            allowed="a whole model, with all its weights in the folder",
            hint="merge it: `merge_and_unload()` of peft, then `save_pretrained(folder)` into a new folder",
        )
    for index in sorted(folder.glob("*.safetensors.index.json")):
        try:
            shards = set(json.loads(index.read_bytes())["weight_map"].values())
            elsewhere = sorted(name for name in shards if Path(name).name != name)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UserError("the model's index of weights is broken", got=f"{index}: {error!r}") from error
        if elsewhere:
            raise UserError(
                "the model's index of weights names files that are elsewhere",
                got=f"{index}: {elsewhere[0]}",
                allowed="names of *.safetensors in the folder itself",
            )


def _check_folder(source: ModelSource) -> None:
    folder = source.folder
    if not folder.is_dir():
        raise UserError("no such model folder", got=folder, allowed="a folder, or a hub id: org/name")
    refuse_unhashed_weights(folder)  # first, because an adapter's folder also lacks what is checked below
    if not (folder / "config.json").is_file():
        raise UserError(
            "the model folder has no config.json", got=folder, hint="give a transformers model folder"
        )
    if not weight_files(folder):
        others = ", ".join(path.name for pattern in _PICKLES for path in folder.glob(pattern))
        on_hub = "its page may offer a converted copy as a pull request: `--revision refs/pr/N`"
        here = "load it where you trust it and `model.save_pretrained(folder)`, which writes safetensors"
        raise UserError(
            "the model has no safetensors weights; other formats are not loaded, for unpickling runs code",
            got=f"{source.hub_id}@{source.commit}"
            if source.hub_id
            else f"{folder}: {others or 'no weights'}",
            allowed="*.safetensors",
            hint=on_hub if source.hub_id else here,
        )


def weight_files(folder: Path) -> list[Path]:
    """Those files of a folder that hold a model's weights."""
    return sorted(folder.glob("*.safetensors"))


def _in_one_spelling(document: bytes) -> bytes:
    """JSON with sorted keys; input that is not JSON is returned unchanged (loading it reports the error)."""
    try:
        return json.dumps(json.loads(document), sort_keys=True).encode()
    except (ValueError, RecursionError):
        return document


def _hash_files(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.suffix == ".json":
            digest.update(_in_one_spelling(path.read_bytes()))
            continue
        with path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()
