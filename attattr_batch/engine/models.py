"""Loading classifiers: from a folder, the hub, or the bundled set. Safetensors only, never remote code."""

from __future__ import annotations

import hashlib
import json
import re
import reprlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import snapshot_download
from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError
from huggingface_hub.errors import HTTPError as ClientError  # type: ignore[attr-defined]
from huggingface_hub.errors import RevisionNotFoundError as RevisionNotFound
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from attattr_batch.errors import UserError, unknown_name
from attattr_batch.files import user_path
from attattr_batch.resources import bundled_folder
from attattr_batch.spec import BUNDLED

_FILES = ["*.json", "*.safetensors", "*.txt", "*.model"]
"""All that a model is loaded from; beside it checkpoints have optimizer states, pickles and logs."""

# Beyond what any classifier has; a configuration may ask for more to exhaust memory or time.
_LARGEST = {
    "num_hidden_layers": 256,
    "num_attention_heads": 256,
    "hidden_size": 2**15,
    "intermediate_size": 2**17,
    "vocab_size": 2**22,
    "max_position_embeddings": 2**22,
    "num_labels": 2**12,
}
_IN_A_LAYER = re.compile(r"\.\d+\.")
# Families that count positions from padding_idx + 1.
_COUNTED_FROM_PADDING = {
    *("roberta", "xlm-roberta", "camembert"),
    *("xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "xmod"),
}
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack", "*.pkl")


@dataclass(frozen=True)
class ModelSource:
    """Where a model is, settled once by the driver and sent to every worker.

    Attributes:
        name: As the user wrote it.
        folder: Local folder with its files.
        hub_id: Hub repository, or None for a local folder.
        commit: Commit hash of the hub repository, or None.
        sha256: Hash of configuration and weights in a local folder, once they are pinned.
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
        """The same model, and no other that its folder may hold later, or on another machine."""
        return self if self.hub_id is not None else replace(self, sha256=self._hash())

    def identity(self) -> dict[str, str]:
        """What makes this model the same model: the commit, or the hash of configuration and weights."""
        if self.hub_id is not None and self.commit is not None:
            return {"hub": self.hub_id, "commit": self.commit}
        return {"sha256": self.sha256 or self._hash()}

    def is_here(self) -> bool:
        """Whether this machine has the model: its folder, with the very files if it is pinned."""
        if self.hub_id is not None:
            return True  # `settled` fetches it
        try:
            return self.folder.is_dir() and self.sha256 in (None, self._hash())
        except (OSError, ValueError):
            return False

    def files(self) -> list[Path]:
        """Its files here, for a machine that lacks them; none of a hub model, which machines fetch."""
        if self.hub_id is not None:
            return []
        return sorted(path for pattern in _FILES for path in self.folder.glob(pattern) if path.is_file())

    def _hash(self) -> str:
        return _hash_files([self.folder / "config.json", *_weight_files(self.folder)])

    def settled(self) -> ModelSource:
        """The same model on this machine: a hub model is fetched here if its folder is elsewhere."""
        if self.folder.is_dir() or self.hub_id is None:
            return self
        return ModelSource(self.name, _download(self.hub_id, self.commit), self.hub_id, self.commit)


def find_model(name: str, *, task: str | None = None, revision: str | None = None) -> ModelSource:
    """Finds a model by folder, hub id, or `bundled` (the tiny model of the task).

    Raises:
        UserError: there is no such model, or it has no safetensors weights.
    """
    if name == BUNDLED:
        if revision is not None:
            raise UserError("only a hub model has a revision", got=f"{revision} of the bundled model")
        folders = bundled_folder() / "models"
        tasks = [path.name for path in folders.iterdir()]
        if task is None:
            allowed = ", ".join(sorted(tasks))
            raise UserError("a bundled model needs its task", got="no `task`", allowed=allowed)
        if not (folders / task).is_dir():
            raise unknown_name("bundled model for task", task, tasks)
        return ModelSource(name, folders / task)
    path = user_path(name)
    if path.exists() or name.startswith((".", "/", "~")):
        if revision is not None:
            raise UserError("only a hub model has a revision", got=f"{revision} of the folder {path}")
        source = ModelSource(name, path.resolve())
    else:
        folder = _download(name, revision)
        source = ModelSource(name, folder, name, folder.name)
    _check_folder(source)
    return source


def load_config(source: ModelSource) -> Any:
    """Reads and checks the configuration of a classifier without loading weights.

    Raises:
        UserError: not a configuration transformers knows, one that needs code of its own, or one of a model
            larger than any.
    """
    path = source.folder / "config.json"
    try:
        # First as it stands there: transformers makes a name for each of as many labels as it says.
        _check_sizes(json.loads(path.read_text(encoding="utf-8")).get, path)
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=False)
    except UserError:
        raise
    except Exception as error:  # of any kind: each architecture checks its own settings in its own way
        raise UserError(
            "the model's configuration cannot be used",
            got=f"{path}: {error}",
            allowed="architectures that ship with transformers; code from a model folder is never run",
        ) from error
    _check_sizes(lambda name: getattr(config, name, None), path)
    if not all(isinstance(name, str) for name in config.id2label.values()):
        raise UserError("the model's configuration cannot be used", got=f"{path}: id2label", allowed="texts")
    return config


def _check_sizes(setting: Callable[[str], Any], path: Path) -> None:
    for name, largest in _LARGEST.items():
        value = setting(name)
        if value is not None and not (isinstance(value, int) and 0 < value <= largest):
            raise UserError(
                "the model's configuration cannot be used",
                got=f"{path}: {name} is {reprlib.repr(value):.100}",
                allowed=f"a number from 1 to {largest}",
            )


def check_outputs(config: Any) -> None:
    """Refuses a classifier whose outputs are no class scores, to be turned into probabilities by a softmax.

    Raises:
        UserError: a regression head, or one of several labels at once.
    """
    if config.num_labels < 2:
        raise UserError(
            "the model has a regression head: the softmax of its one output is constantly 1, and "
            "self-attention attribution is undefined",
            got="1 output",
            allowed="2 or more classes",
            hint="choose a model fine-tuned for this task",
        )
    if config.problem_type not in (None, "single_label_classification"):
        raise UserError(
            "the model's outputs are no class scores: self-attention attribution explains the probability "
            "of one class among several",
            got=f"problem_type: {config.problem_type}",
            allowed="single_label_classification",
        )


def load_tokenizer(source: ModelSource) -> PreTrainedTokenizerBase:
    """Loads the model's tokenizer.

    Raises:
        UserError: the folder holds none, or only a slow one.
    """
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.folder, trust_remote_code=False)
    except Exception as error:  # of any kind: the library of fast tokenizers raises bare ones
        raise UserError(
            "the model's tokenizer cannot be loaded",
            got=f"{source.folder}: {error}",
            hint="put tokenizer.json and tokenizer_config.json beside the weights",
        ) from error
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        # transformers makes one without a vocabulary when the files are missing: every word is [UNK].
        raise UserError(
            "the model has no tokenizer",
            got=f"{source.folder} without a vocabulary",
            allowed="tokenizer.json, vocab.txt or the like, beside the weights",
            hint="`tokenizer.save_pretrained(folder)` with the tokenizer it was trained with",
        )
    return tokenizer


def load_model(source: ModelSource, device: torch.device) -> PreTrainedModel:
    """Loads a sequence classifier in float32, in evaluation mode.

    Raises:
        UserError: weights are missing (a classifier head, above all), broken, or do not fit the
            configuration: those of a layer that the architecture has no use for among them. (An unused head
            or pooler is common and does no harm.)
    """
    try:
        with quiet_transformers():
            model, info = AutoModelForSequenceClassification.from_pretrained(
                source.folder,
                dtype=torch.float32,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # of any kind: each architecture fails in its own way on odd settings
        raise UserError("the model cannot be loaded", got=f"{source.folder}: {error}") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise UserError(
            "the model folder lacks weights, so they would be random",
            got=f"{source.folder} without {', '.join(missing[:4])}{' ...' if len(missing) > 4 else ''}",
            allowed="a fine-tuned sequence classifier",
            hint="fine-tune one: `attattr finetune --help`",
        )
    own = f"{model.base_model_prefix}."
    unused = sorted(
        name for name in info["unexpected_keys"] if name.startswith(own) and _IN_A_LAYER.search(name)
    )
    if unused:
        raise UserError(
            "the model folder has weights that this architecture does not use, so it would be another model",
            got=f"{source.folder}: {', '.join(unused[:4])}{' ...' if len(unused) > 4 else ''}",
            allowed="weights and a config.json that go together, of an architecture transformers still has",
        )
    broken = [name for name, weights in model.named_parameters() if not weights.isfinite().all()]
    if broken:
        raise UserError("the model has weights that are no numbers", got=f"{source.folder}: {broken[0]}")
    return model.to(device).eval()


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps transformers' progress bars and warnings off the terminal; what matters becomes an error."""
    logging = transformers.utils.logging
    level, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if had_bar:
            logging.enable_progress_bar()


def token_limit(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Longest sequence, in tokens, that position embeddings and tokenizer allow."""
    positions = int(getattr(config, "max_position_embeddings", None) or 512)
    if config.model_type in _COUNTED_FROM_PADDING:
        positions -= int(config.pad_token_id) + 1
    return min(positions, int(tokenizer.model_max_length))


def choose_device(name: str) -> torch.device:
    """Resolves `auto`, `cpu` or `cuda`.

    Raises:
        UserError: `cuda` was asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device here", got="--device cuda", allowed="auto, cpu", hint="`attattr doctor`"
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def gpu_names() -> list[str]:
    """Names of the CUDA devices of this machine."""
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _download(hub_id: str, revision: str | None) -> Path:
    try:
        # Sub-folders hold the same model in other formats, or earlier checkpoints.
        return Path(
            snapshot_download(hub_id, revision=revision, allow_patterns=_FILES, ignore_patterns=["*/*"])
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


def _check_folder(source: ModelSource) -> None:
    folder = source.folder
    if not folder.is_dir():
        raise UserError("no such model folder", got=folder, allowed="a folder, or a hub id: org/name")
    if not (folder / "config.json").is_file():
        raise UserError(
            "the model folder has no config.json", got=folder, hint="give a transformers model folder"
        )
    if _weight_files(folder):
        return
    pickles = [path.name for pattern in _PICKLES for path in folder.glob(pattern)]
    if pickles:
        raise UserError(
            "the model has pickled weights only, and unpickling runs code",
            got=f"{folder}: {', '.join(pickles)}",
            allowed="safetensors",
            hint="load it where you trust it and `model.save_pretrained(folder)`, which writes safetensors",
        )
    if source.hub_id is not None:
        raise UserError(
            "the model on the hub has no safetensors weights, and unpickling others would run code",
            got=f"{source.hub_id}@{source.commit}",
            hint="its page may offer a converted copy as a pull request: `--revision refs/pr/N`",
        )
    raise UserError("the model folder has no weights", got=folder, allowed="*.safetensors")


def _weight_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def _in_one_spelling(document: bytes) -> bytes:
    """JSON with sorted keys; as it stands where it is none, of which whoever loads it will say more."""
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
