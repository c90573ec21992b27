"""Planning an attribution run: everything that can be known, checked and refused before work starts."""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from attattr_batch.choices import Target
from attattr_batch.data.chunking import make_chunks
from attattr_batch.data.encoding import check_vocabulary, encode, lacks_text
from attattr_batch.data.labels import LabelMatch, match_labels
from attattr_batch.data.records import Chunk, Dataset, EncodedExample, tokens_key
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.attribution import Method
from attattr_batch.engine.devices import choose_device
from attattr_batch.engine.families import check_family, layers_run
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.engine.models import check_outputs, load_config, load_tokenizer, token_limit
from attattr_batch.engine.statistics import EdgeLimits
from attattr_batch.identity import content_key, run_key
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.spec import MachineSettings, MethodSettings, RunSpec

CHUNK_EXAMPLES = 64
"""Examples in a chunk at most: what one transaction commits, and what one crash can cost."""

_VERSIONS = ("attattr-batch", "torch", "transformers", "numpy", "duckdb", "ray", "datasets")


@dataclass(frozen=True)
class AttributionPlan:
    """A run, ready to be registered and executed.

    Attributes:
        spec: The settings.
        source: The model.
        dataset: The rows.
        encoded: The rows, tokenised.
        target: Classes attributed; `predicted` where the split has no labels.
        identity: What makes this run the same run.
        work: What workers need.
        unfit: Why an example cannot be attributed, by example id; to be quarantined.
        warnings: What the user should know before trusting the numbers.
        architecture: Family, layers and heads of the model.
        hidden_size: Width of the model.
        tokenizer_key: Which vocabulary the token ids belong to.
        vocabulary: Token string by id.
    """

    spec: RunSpec
    source: ModelSource
    dataset: Dataset
    encoded: Sequence[EncodedExample]
    target: Target
    identity: dict[str, Any]
    work: AttributeWork
    unfit: dict[int, str]
    warnings: tuple[str, ...]
    architecture: tuple[str, int, int]
    hidden_size: int
    tokenizer_key: str
    vocabulary: dict[int, str]

    @property
    def run_key(self) -> str:
        """Key of the run's identity."""
        return run_key(self.identity)

    @property
    def example_ids(self) -> list[int]:
        """The examples, in the order of the split."""
        return [example.example_id for example in self.encoded]

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples: like lengths together, within the token budget."""
        wanted = set(pending)
        examples = [example for example in self.encoded if example.example_id in wanted]
        return make_chunks(examples, self.work.method.batch_tokens, CHUNK_EXAMPLES)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """A rough cost: replays from each layer upward, forward and backward, at about six nodes."""
        _, n_layers, _ = self.architecture
        tokens = sum(example.n_tokens for chunk in chunks for example in chunk.examples)
        return tokens * n_layers * (n_layers - 1) * 6 * 24 * self.hidden_size**2

    def tables(self) -> dict[str, pa.Table]:
        """The run's data: rows of `examples`, `tokens` and `vocabulary`."""
        return {
            "examples": _example_rows(self.dataset),
            "tokens": _token_rows(self.encoded),
            "vocabulary": pa.table(
                {"token_id": list(self.vocabulary), "token": list(self.vocabulary.values())},
                schema=pa.schema({"token_id": pa.uint32(), "token": pa.string()}),
            ),
        }


def plan_attribution(spec: RunSpec) -> AttributionPlan:
    """Finds and checks model, tokenizer, data and labels of a run.

    Raises:
        UserError: something about them cannot be used; nothing was started.
    """
    source = find_model(spec.model, task=spec.data.task, revision=spec.revision).pinned()
    config, tokenizer = load_config(source), load_tokenizer(source)
    check_family(config)
    check_outputs(config)
    dataset = load_dataset_for(spec.data)
    match = match_labels(dataset.labels, config.id2label, spec.label_map)
    max_length = min(spec.method.max_length, token_limit(config, tokenizer))
    encoded = encode(dataset, tokenizer, max_length)
    check_vocabulary(encoded, config.vocab_size)
    target, warnings = _settle_target(spec.method.target, dataset)
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    tokenizer_key = content_key(sorted(vocabulary.items()))
    return AttributionPlan(
        spec=spec,
        source=source,
        dataset=dataset,
        encoded=encoded,
        target=target,
        identity={
            **_identity(spec.method, source, dataset),
            "tokens": tokens_key(encoded),
            "max_length": max_length,
            "outputs": list(match.mapping),
            "target": target,
        },
        work=_work(spec, source, config.hidden_size, target, match),
        unfit=_unfit(dataset, encoded, target),
        warnings=(*warnings, *_label_warnings(match, dataset)),
        architecture=(config.model_type, layers_run(config), config.num_attention_heads),
        hidden_size=config.hidden_size,
        tokenizer_key=tokenizer_key,
        vocabulary=vocabulary,
    )


def _work(
    spec: RunSpec, source: ModelSource, hidden_size: int, target: Target, match: LabelMatch
) -> AttributeWork:
    method, device = spec.method, device_for(spec.machine)
    tokens = spec.machine.batch_tokens or default_batch_tokens(device, hidden_size)
    return AttributeWork(
        source=source,
        device=device,
        threads=None,
        method=Method(method.quadrature, method.nodes, method.tolerance, method.dtype, tokens),
        edge_limits=EdgeLimits(method.top_k, method.edge_floor, method.edge_cap),
        target=target,
        outputs=tuple(sorted(range(len(match.mapping)), key=match.mapping.__getitem__)),
    )


def device_for(machine: MachineSettings) -> str:
    """`cpu` or `cuda`: the device of workers that have one of the GPUs asked for.

    Raises:
        UserError: they are to be on this machine, which has none.
    """
    pools = machine.workers if isinstance(machine.workers, list) else []
    wanted = "cuda" if machine.device == "auto" and any(pool.gpus for pool in pools) else machine.device
    if wanted == "cuda" and machine.address is not None:
        return wanted  # a cluster's GPUs are not seen from here
    return choose_device(wanted).type


def default_batch_tokens(device: str, hidden_size: int) -> int:
    """Tokens in one forward and backward pass: about half a GB of activations on a CPU, 16 GB on a GPU.

    Beyond 8,192 a CPU gains nothing: the activations of small models leave its caches.
    """
    budget, most = (1_500_000, 8_192) if device == "cpu" else (50_000_000, 65_536)
    return max(512, min(most, budget // hidden_size // 256 * 256))


def provenance(device: str) -> dict[str, Any]:
    """What changes speed but not results: versions and machine."""
    return {
        "versions": {name: version(name) for name in _VERSIONS},
        "python": platform.python_version(),
        "machine": platform.machine(),
        "device": device,
    }


def _identity(method: MethodSettings, source: ModelSource, dataset: Dataset) -> dict[str, Any]:
    return {
        "kind": "attribute",
        "model": source.identity(),
        "task": dataset.task,
        "split": dataset.split,
        "dataset": dataset.fingerprint(),
        "dataset_revision": dataset.revision,
        "quadrature": method.quadrature,
        "nodes": method.nodes,
        "tolerance": method.tolerance if method.quadrature == "adaptive" else None,
        "dtype": method.dtype,
        "top_k": method.top_k,
        "edge_floor": method.edge_floor,
        "edge_cap": method.edge_cap,
    }


def _settle_target(target: Target, dataset: Dataset) -> tuple[Target, list[str]]:
    if target == "predicted" or any(example.gold is not None for example in dataset):
        return target, []
    return "predicted", ["the split has no gold labels: the predicted class alone is attributed"]


def _label_warnings(match: LabelMatch, dataset: Dataset) -> list[str]:
    if match.by_name:
        return []
    return [
        "the model does not name its labels; they are taken to be in the dataset's order"
        f" ({', '.join(dataset.labels)}). If accuracy comes out below chance, set `label_map` in the spec"
    ]


def _unfit(dataset: Dataset, encoded: Sequence[EncodedExample], target: Target) -> dict[int, str]:
    reasons = {}
    for example, tokens in zip(dataset, encoded, strict=True):
        blank = not example.text_a.strip() or (example.text_b is not None and not example.text_b.strip())
        if blank or lacks_text(example, tokens):
            reasons[example.example_id] = "empty text"
        elif example.gold is None and target != "predicted":
            reasons[example.example_id] = "no gold label (attribute such rows with `target: predicted`)"
    return reasons


def below_chance(gold: Sequence[int], correct: int, n_labels: int) -> bool:
    """Whether accuracy is below that of always answering the rarest label: a sign of permuted labels.

    Rows that lack a label, of a few or of one class, are no sign of anything.
    """
    counts = Counter(gold)
    return len(counts) == n_labels and correct < min(counts.values())


def _example_rows(dataset: Dataset) -> pa.Table:
    rows = [(e.example_id, e.text_a, e.text_b, e.gold) for e in dataset]
    ids, first, second, gold = zip(*rows, strict=True)
    columns = [
        pa.array(ids, pa.uint32()),
        pa.array(first, pa.string()),
        pa.array(second, pa.string()),
        pa.array(gold, pa.uint16()),
    ]
    return pa.table(columns, names=["example_id", "text_a", "text_b", "gold"])


def _token_rows(encoded: Sequence[EncodedExample]) -> pa.Table:
    lengths = np.array([example.n_tokens for example in encoded], np.intp)
    ids = np.array([example.example_id for example in encoded], np.uint32)
    columns = [
        pa.array(np.repeat(ids, lengths)),
        pa.array(chain.from_iterable(map(range, lengths)), pa.uint16()),
        pa.array(chain.from_iterable(example.input_ids for example in encoded), pa.uint32()),
        pa.array(chain.from_iterable(example.segments for example in encoded), pa.uint8()),
    ]
    return pa.table(columns, names=["example_id", "position", "token_id", "segment"])
