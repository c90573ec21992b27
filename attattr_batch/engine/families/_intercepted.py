"""The generic path: any encoder whose attention can be intercepted while its own forward runs.

It is slower than the layered path, because layers below the replayed one run again, but it needs no
knowledge of a family's layers. There are two ways in: transformers' attention interface, and hooks for
DeBERTa, which has attention code of its own.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any

from jaxtyping import Bool, Int
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from attattr_batch.engine.families._base import Batch, Encoder, Trace, remaining_context
from attattr_batch.errors import UserError

_INTERFACE = "attattr_intercepted"
# The process has one table of attention functions, and a model one set of hooks: what one thread enters there
# for its forward would intercept that of another.
_ONE_FORWARD = threading.Lock()

Visitor = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Called in every layer with (layer, context [replay, token, width], A, V); returns the context to use."""

_Substitute = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The same without the layer: layers call in their order."""


class InterceptedEncoder(Encoder):
    """An encoder whose own forward calls back with every layer's attention.

    Of families that call transformers' attention interface, ModernBERT among them.
    """

    @contextmanager
    def intercepted(self, substitute: _Substitute) -> Iterator[None]:
        """Makes the model's forward call `substitute` once for each layer, as long as this is open."""

        def attend(
            module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any
        ) -> Any:
            # The family's own eager function keeps its peculiarities (windows, biases, scaling).
            eager = sys.modules[type(module).__module__].eager_attention_forward
            heads, attention = eager(module, query, key, value, mask, **options)
            return substitute(heads.flatten(2), attention, value).view_as(heads), attention

        config = self.model.config
        before = config._attn_implementation
        ALL_ATTENTION_FUNCTIONS.register(_INTERFACE, attend)
        ALL_MASK_ATTENTION_FUNCTIONS.register(_INTERFACE, ALL_MASK_ATTENTION_FUNCTIONS["eager"])
        config._attn_implementation = _INTERFACE
        try:
            yield
        finally:
            config._attn_implementation = before
            # transformers offers no way to unregister.
            ALL_ATTENTION_FUNCTIONS._global_mapping.pop(_INTERFACE, None)
            ALL_MASK_ATTENTION_FUNCTIONS._global_mapping.pop(_INTERFACE, None)

    def logits(self, batch: Batch) -> Tensor:
        """Class scores from the model's own unchanged forward, without gradients."""
        with _ONE_FORWARD:
            return super().logits(batch)

    def run(self, inputs: dict[str, Tensor], visit: Visitor) -> Tensor:
        """Runs the model's forward under interception and checks that every layer called back.

        Raises:
            UserError: a layer did not, so the family cannot be attributed.
        """
        layers = count()
        with _ONE_FORWARD, self.intercepted(lambda *found: visit(next(layers), *found)):
            logits: Tensor = self.model(**inputs).logits
        calls = next(layers)
        if calls != self.n_layers:
            raise UserError(
                f"model family {self.family!r} does not expose its attention",
                got=f"{calls} of {self.n_layers} layers could be intercepted",
                hint="see `attattr_batch.engine.families.SUPPORTED`",
            )
        return logits

    def _trace(self, batch: Batch) -> Trace:
        return _InterceptedTrace(self, batch)


class _InterceptedTrace(Trace):
    def __init__(self, encoder: InterceptedEncoder, batch: Batch):
        self.batch = batch
        self._encoder = encoder
        self._attention: list[tuple[Tensor, Tensor]] = []
        self.contexts = []

        def record(layer: int, context: Tensor, attention: Tensor, value: Tensor) -> Tensor:
            if value.shape[1] != attention.shape[1]:
                raise UserError(
                    f"model family {encoder.family!r} shares values between heads, which is not supported",
                    got=f"{attention.shape[1]} heads, {value.shape[1]} value heads",
                )
            self._attention.append((attention.detach(), value.detach()))
            if layer == 0:
                context = context.detach().requires_grad_()
            self.contexts.append(context)
            return context

        self.logits = encoder.run(batch.model_inputs(), record)

    def attention(self, layer: int) -> tuple[Tensor, Tensor]:
        return self._attention[layer]

    def replay(self, layer: int, rows: Int[Tensor, " replay"], context: Tensor) -> Tensor:
        def replace(at: int, clean: Tensor, attention: Tensor, value: Tensor) -> Tensor:
            return context if at == layer else clean

        return self._run(rows, replace)

    def without_heads(
        self,
        first: int,
        rows: Int[Tensor, " replay"],
        head_mask: Bool[Tensor, "replay layer head"],
        means: Tensor | None = None,
    ) -> Tensor:
        def remove(at: int, clean: Tensor, attention: Tensor, value: Tensor) -> Tensor:
            return remaining_context(clean, head_mask[:, at], None if means is None else means[at])

        return self._run(rows, remove)

    def _run(self, rows: Int[Tensor, " replay"], visit: Visitor) -> Tensor:
        inputs = {name: tensor[rows] for name, tensor in self.batch.model_inputs().items()}
        return self._encoder.run(inputs, visit)


class DebertaEncoder(InterceptedEncoder):
    """DeBERTa-v2 and v3: disentangled attention, intercepted by module hooks."""

    @contextmanager
    def intercepted(self, substitute: _Substitute) -> Iterator[None]:
        """Hooks every self-attention module for the duration of a forward."""
        with ExitStack() as hooks:
            for block in self.model.deberta.encoder.layer:
                _hook_disentangled(hooks, block.attention.self, substitute)
            yield


def _hook_disentangled(hooks: ExitStack, module: Any, substitute: _Substitute) -> None:
    seen: dict[str, Tensor] = {}

    def see_attention(_: nn.Module, args: tuple[Tensor, ...], __: Any) -> None:
        seen["attention"] = args[0]

    def see_value(_: nn.Module, __: Any, output: Tensor) -> None:
        seen["value"] = output.unflatten(-1, (module.num_attention_heads, -1)).transpose(1, 2)

    def replace_context(_: nn.Module, __: Any, output: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        return substitute(output[0], seen["attention"], seen["value"]), output[1]

    for handle in (
        module.dropout.register_forward_hook(see_attention),
        module.value_proj.register_forward_hook(see_value),
        module.register_forward_hook(replace_context),
    ):
        hooks.callback(handle.remove)
