"""Removing heads equals multiplying their attention matrices by zero, for every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import naive, tiny

from attattr_batch.data.encoding import encode
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.families import Batch, collate, encoder_for
from attattr_batch.engine.masking import masked_logits
from attattr_batch.engine.means import mean_contexts
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.engine.models import load_model, load_tokenizer
from attattr_batch.spec import DataSettings

PATHS = [
    (kind, generic)
    for kind in tiny.KINDS
    for generic in ([False, True] if kind in tiny.FAST and kind != "albert-inner" else [False])
]


def random_masks(n: int, n_layers: int, n_heads: int) -> torch.Tensor:
    """Nothing removed, everything removed, single heads, whole upper layers, and random ones."""
    generator = torch.Generator().manual_seed(1)
    masks = torch.rand(n, n_layers, n_heads, generator=generator) < 0.4
    masks[0], masks[1], masks[2] = False, True, False
    masks[2, -1, -1] = True
    masks[3, 0] = False
    masks[4, :2] = False
    return masks


def case(kind: str) -> tuple[Any, Batch, torch.Tensor, torch.Tensor]:
    model = tiny.classifier(kind, dtype=torch.float64)
    batch = tiny.batch(kind, (12, 10, 11) if kind == "modernbert" else tiny.LENGTHS)
    n_layers = encoder_for(model).n_layers
    masks = random_masks(11, n_layers, model.config.num_attention_heads)
    return model, batch, torch.arange(11) % 3, masks


@pytest.mark.parametrize(("kind", "generic"), PATHS)
def test_equals_multiplied_attention(kind: str, generic: bool) -> None:
    model, batch, rows, masks = case(kind)
    inputs = {name: tensor[rows] for name, tensor in batch.model_inputs().items()}
    expected = naive.masked_logits(model, inputs, (~masks).double())
    found = masked_logits(encoder_for(model, generic=generic), batch, rows, masks, 30)
    assert (found - expected).abs().max() < (1e-5 if kind == "modernbert" else 1e-9)
    # The test would see a mask that is ignored.
    clean = naive.masked_logits(model, inputs, torch.ones_like(masks).double())
    assert (found - clean).abs().max() > 1e-2
    assert (found[0] - clean[0]).abs().max() < 1e-5


@pytest.mark.parametrize(("kind", "generic"), PATHS)
def test_means_stand_in_for_removed_heads(kind: str, generic: bool) -> None:
    model, batch, rows, masks = case(kind)
    encoder = encoder_for(model, generic=generic)
    # So little padding that each query sees a key: in float64, which nobody runs, ModernBERT's own eager
    # attention gives NaN otherwise, because it takes the softmax in float32.
    means = mean_contexts(encoder, tiny.examples((7, 8), seed=3, segments=tiny.takes_segments(kind)), 4096)
    inputs = {name: tensor[rows] for name, tensor in batch.model_inputs().items()}
    expected = naive.mean_masked_logits(model, inputs, (~masks).double(), means)
    found = masked_logits(encoder, batch, rows, masks, 30, means)
    assert (found - expected).abs().max() < (1e-5 if kind == "modernbert" else 1e-9)
    zeroed = masked_logits(encoder, batch, rows, masks, 30)
    assert (found - zeroed).abs().max() > 1e-2
    assert torch.equal(found[0], zeroed[0])


@pytest.mark.parametrize("generic", [False, True])
def test_a_layer_in_which_no_pair_begins_is_passed_over(generic: bool) -> None:
    """transformers cannot run a batch without rows."""
    model, batch, rows, masks = case("bert")
    encoder, some = encoder_for(model, generic=generic), torch.tensor([0, 2])
    found = masked_logits(encoder, batch, rows[some], masks[some], 1000)
    torch.testing.assert_close(found, masked_logits(encoder, batch, rows, masks, 1000)[some])


def test_alike_pairs_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch, rows, masks = case("bert")
    encoder = encoder_for(model)
    trace = encoder.trace(batch)
    computed = []
    original = type(trace).without_heads

    def counting(self: Any, first: int, some: torch.Tensor, *others: Any) -> torch.Tensor:
        computed.append((first, len(some)))
        return original(self, first, some, *others)

    monkeypatch.setattr(type(trace), "without_heads", counting)
    once = masked_logits(encoder, batch, rows, masks, 1000)
    n_once, firsts = sum(n for _, n in computed), {first for first, _ in computed}
    computed.clear()
    twice = masked_logits(encoder, batch, torch.cat([rows, rows]), torch.cat([masks, masks]), 1000)
    assert sum(n for _, n in computed) == n_once == 10  # the pair that removes nothing is the clean row
    assert firsts == {0, 1, 2}
    assert torch.equal(twice, torch.cat([once, once]))


@pytest.mark.real
@pytest.mark.slow
def test_every_row_of_rte_with_pruned_heads(real_data: Path) -> None:
    """Against transformers' own forward in which the context of the heads is zeroed by a hook."""
    glue = str(real_data / "data" / "glue")
    dataset = load_dataset_for(DataSettings(task="rte", data_dir=str(glue)))
    source = ModelSource("rte", real_data / "models" / "RTE")
    model = load_model(source, torch.device("cpu"))
    encoded = sorted(encode(dataset, load_tokenizer(source), 128), key=lambda example: example.n_tokens)
    removed = torch.rand(6, 12, generator=torch.Generator().manual_seed(2)) < 0.5
    encoder = encoder_for(model)
    for start in range(0, len(encoded), 40):
        batch = collate(encoded[start : start + 40], 0, torch.device("cpu"))
        rows = torch.arange(len(batch.input_ids))
        found = masked_logits(encoder, batch, rows, removed.expand(len(rows), -1, -1), 4096)
        with zeroed(model, removed):
            expected = encoder.logits(batch)
        assert (found - expected).abs().max() < 2e-4
        assert torch.equal(found.argmax(1), expected.argmax(1))


class zeroed:
    """Hooks every self-attention module of a BERT so that removed heads give zero context."""

    def __init__(self, model: Any, removed: torch.Tensor):
        self._model, self._removed = model, removed
        self._handles: list[Any] = []

    def __enter__(self) -> None:
        for layer, block in enumerate(self._model.bert.encoder.layer):
            kept = (~self._removed[layer]).float().repeat_interleave(32)

            def hook(_: Any, __: Any, output: Any, kept: torch.Tensor = kept) -> Any:
                return (output[0] * kept, *output[1:])

            self._handles.append(block.attention.self.register_forward_hook(hook))

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
