"""Integrated gradients over the attention of each layer (paper, section 3; equation 3).

For layer l with attention A, values V, and the probability F of one class,

    Attr_h = A_h * ( [ sum_k w_k dF/dctx_h(alpha_k) ] V_h^T ),     ctx(alpha) = alpha * A V,

all heads of the layer scaled together by alpha. Completeness: the sum of Attr over heads, queries and keys
is F(A) - F(0); the difference is stored with every row as its completeness error.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from attattr_batch.engine.adaptive import integrate
from attattr_batch.engine.families import Trace
from attattr_batch.engine.layer import Certificate, Layer
from attattr_batch.engine.layer import LayerAttribution as LayerAttribution
from attattr_batch.engine.path import Items, clean_layers
from attattr_batch.engine.quadrature import fixed_rule
from attattr_batch.spec import MethodSettings


def attribute_layers(
    trace: Trace, items: Items, method: MethodSettings, batch_tokens: int = 4096
) -> Iterator[LayerAttribution]:
    """Yields the attribution of all items layer by layer, so that one layer's matrices are held at a time.

    Args:
        trace: Clean forward pass over the batch; its graph is used up.
        items: Rows and classes to attribute.
        method: How to integrate. From its tolerance, the bound on the completeness error of every (item,
            layer) pair, follow the accepted path error (`PATH_SHARE`, `RISE_SHARE`) and change of the scores
            (`AGREEMENT`). Its dtype is that of the replays; the clean forward pass and the statistics are
            float32 in any case.
        batch_tokens: Tokens replayed at once; bounds memory, changes no result beyond rounding.
    """
    clean = clean_layers(trace, items)
    at_once = layers_at_once(items.rows.device, len(clean))
    for start in range(0, len(clean), at_once):
        layers = [
            Layer(trace, layer, items, clean[layer], batch_tokens)
            for layer in range(len(clean))[start : start + at_once]
        ]
        if method.quadrature == "adaptive":
            found = integrate(layers, method)
        else:
            found = [_by_fixed_rule(layer, method) for layer in layers]
        while layers:
            yield layers.pop(0).attribution(*found.pop(0))


def layers_at_once(device: torch.device, n_layers: int) -> int:
    """How many layers are integrated side by side.

    On a GPU all of them, because the host waits for the device once in each round of the integration. A CPU
    gains nothing by that, and would hold the gradients of all layers at once.
    """
    return n_layers if device.type == "cuda" else 1


def _by_fixed_rule(layer: Layer, method: MethodSettings) -> tuple[Tensor, Certificate]:
    """Applies one rule to all items, with as many nodes at once as there is room for."""
    rule = fixed_rule(method.quadrature, method.nodes or 0)
    weights = dict(zip(rule.nodes.tolist(), rule.weights.tolist(), strict=True))
    gradient, items = weights.get(1.0, 0.0) * layer.at_one.gradient(), layer.items
    f_zero = None if 0.0 in weights else layer.removed_value(method.dtype)
    alphas = [alpha for alpha in weights if alpha != 1.0]
    for start in range(0, len(alphas), layer.at_once):
        part = torch.tensor(alphas[start : start + layer.at_once], dtype=torch.float64)
        each = part.repeat_interleave(len(items)).to(layer.device, non_blocking=True)
        value, _, gradients = layer.replay(items.everything.repeat(len(part)), each, method.dtype)
        for alpha, of_items in zip(part.tolist(), gradients.unflatten(0, (len(part), -1)), strict=True):
            gradient += weights[alpha] * of_items
        if part[0] == 0.0:
            f_zero = value[: len(items)]
    assert f_zero is not None
    unknown = torch.full_like(f_zero, torch.nan)
    nodes = torch.full_like(items.everything, len(rule))
    return gradient, Certificate(
        f_zero=f_zero,
        path_error=unknown,
        agreement_error=unknown,
        nodes=nodes,
        certified=torch.zeros_like(nodes, dtype=torch.bool),
    )
