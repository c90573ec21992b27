"""Attribution of one text, without a store: the call behind `attattr_batch.attribute`."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from attattr_batch.choices import DType, Quadrature
from attattr_batch.data.encoding import check_tokenizer, check_vocabulary, encode, lacks_text
from attattr_batch.data.records import EncodedExample, Example
from attattr_batch.engine.devices import choose_device
from attattr_batch.engine.model_source import find_model
from attattr_batch.engine.models import load_model, load_tokenizer, token_limit
from attattr_batch.engine.single import Matrices, attribute_example, check_classifier
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.markup import escape, html_table
from attattr_batch.report.bertviz import head_view_json
from attattr_batch.report.matrices import head_summed_matrix, shaded_tokens
from attattr_batch.spec import MethodSettings, make_settings

_EDGES_SHOWN = 5


class Edge(NamedTuple):
    """One entry of the attribution matrices: information flowing from the key token to the query token."""

    layer: int
    head: int
    query: int
    key: int
    query_token: str
    key_token: str
    score: float
    attention: float


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Matrices):
    """Self-attention attribution of one text.

    Attributes:
        scores: Attribution, float32 [layer, head, query, key]; query and key are 0-based token positions.
        attention: Attention probabilities, of the same shape.
        tokens: Token strings, special ones included.
        segments: Per token 0 (first text), 1 (second text) or None (special token).
        truncated: Whether tokens were cut to fit the length limit.
        label: Class whose probability is attributed, as an index of the model's outputs.
        label_name: Its name in the model's configuration.
        probabilities: Class probabilities, float32 [label].
        f_full: Probability of the class.
        f_zero: The same with a layer's attention scaled to zero, float32 [layer].
        completeness_error: A layer's sum of scores minus (f_full - f_zero), float32 [layer]; an exact
            integral has zero.
        nodes: Nodes of the accepted quadrature rule [layer].
    """

    tokens: list[str]
    segments: list[int | None]
    truncated: bool
    label_name: str
    f_full: float

    def top_edges(self, k: int, layer: int | None = None, head: int | None = None) -> list[Edge]:
        """Returns the k largest positive scores, largest first.

        Args:
            k: How many at most.
            layer: One layer, or None for all.
            head: One head of each layer, or None for all.

        Raises:
            UserError: there is no such layer or head, or `k` is negative.
        """
        n_layers, n_heads = self.scores.shape[:2]
        layers = [_index("layer", layer, n_layers)] if layer is not None else list(range(n_layers))
        heads = [_index("head", head, n_heads)] if head is not None else list(range(n_heads))
        if k < 0:
            raise UserError("cannot list a negative number of edges", got=k, allowed="0 or more")
        part = self.scores[np.ix_(layers, heads)]
        order = np.argsort(-part, axis=None, kind="stable")[:k]
        places = zip(*np.unravel_index(order, part.shape), strict=True)
        edges = [self._edge(layers[a], heads[b], int(query), int(key)) for a, b, query, key in places]
        return [edge for edge in edges if edge.score > 0]

    def bertviz_json(self) -> str:
        """Returns the complete matrices as the arguments of `bertviz.head_view`; see `report.bertviz`."""
        about = {
            "attributed class": self.label_name,
            "probability": round(self.f_full, 6),
            "entries": "attribution, every entry",
        }
        return head_view_json(self.scores, self.tokens, self.segments, about)

    def _repr_html_(self) -> str:
        edges = [tuple(edge) for edge in self.top_edges(_EDGES_SHOWN)]
        return (
            f"<div><p>{escape(repr(self))}</p><p>{shaded_tokens(self.scores, self.tokens)}</p>"
            f"{head_summed_matrix(self.scores, self.tokens)}<p>strongest edges</p>"
            f"{html_table(Edge._fields, edges)}</div>"
        )

    def _edge(self, layer: int, head: int, query: int, key: int) -> Edge:
        place = (layer, head, query, key)
        score, attention = float(self.scores[place]), float(self.attention[place])
        return Edge(*place, self.tokens[query], self.tokens[key], score, attention)

    def __repr__(self) -> str:
        n_layers, n_heads, n_tokens = self.scores.shape[:3]
        error = np.abs(self.completeness_error).max()
        return (
            f"Attribution({self.label_name!r} {self.f_full:.3f}: {n_layers} layers x {n_heads} heads x"
            f" {n_tokens} tokens, completeness error at most {error:.1e})"
        )


def attribute(
    model: Any,
    tokenizer: Any,
    text: str,
    text_pair: str | None = None,
    *,
    label: int | str | None = None,
    quadrature: Quadrature = "adaptive",
    nodes: int | None = None,
    tolerance: float = 1e-3,
    dtype: DType = "float32",
    max_length: int = 128,
) -> Attribution:
    """Attributes the probability of one class to the attention between tokens.

    The model is left as it was: same mode, same parameters requiring gradients, no hooks. Threads may call
    this at the same time, each with a model of its own.

    Args:
        model: A `*ForSequenceClassification` of transformers, or a folder or hub id to load it from.
        tokenizer: Its fast tokenizer; None if `model` is a folder or hub id that holds it.
        text: The text, or the first of a pair.
        text_pair: The second of a pair.
        label: Class to attribute, as an index of the model's outputs or by its name in the model's
            configuration; None for the predicted class.
        quadrature: `adaptive`, or a fixed rule.
        nodes: Size of a fixed rule.
        tolerance: For `adaptive`: largest completeness error of any layer.
        dtype: Arithmetic of the replays along the path of integration.
        max_length: Tokens at most, special ones included; the model may allow fewer.

    Returns:
        Scores [layer, head, query, key], with tokens, probabilities and completeness errors.

    Raises:
        UserError: model, text, label or settings cannot be used.
    """
    given = {"quadrature": quadrature, "nodes": nodes, "tolerance": tolerance, "dtype": dtype}
    settings = make_settings(MethodSettings, given | {"max_length": max_length}, where="`attribute`")
    model, tokenizer = _load(model, tokenizer)
    names = dict(model.config.id2label)
    wanted = None if label is None else _label_id(label, names)
    example = _encode(model.config, tokenizer, (text, text_pair), settings.max_length)
    found = attribute_example(model, example, wanted, settings)
    return Attribution(
        **vars(found),
        tokens=tokenizer.convert_ids_to_tokens(list(example.input_ids)),
        segments=list(example.segments),
        truncated=example.truncated,
        label_name=names[found.label],
        f_full=float(found.probabilities[found.label]),
    )


def _load(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    if isinstance(model, (str, Path)):
        source = find_model(str(model))
        tokenizer = load_tokenizer(source) if tokenizer is None else tokenizer
        model = load_model(source, choose_device("auto"))
    check_classifier(model)
    check_tokenizer(tokenizer)
    return model, tokenizer


def _encode(config: Any, tokenizer: Any, texts: tuple[str, str | None], max_length: int) -> EncodedExample:
    for text in texts:
        if text is not None and (not isinstance(text, str) or not text.strip()):
            raise UserError("a text must be a string that is not empty", got=repr(text))
    example = Example(0, *texts, None)
    (encoded,) = encode([example], tokenizer, min(max_length, token_limit(config, tokenizer)))
    if lacks_text(example, encoded):
        raise UserError("the tokenizer makes no token of the text", got=repr(texts))
    check_vocabulary([encoded], config.vocab_size)
    return encoded


def _label_id(label: int | str, names: dict[int, str]) -> int:
    if not isinstance(label, str):
        return _index("label", operator.index(label), len(names))
    ids = {name: index for index, name in names.items()}
    if label not in ids:
        raise unknown_name("label of the model", label, ids)
    return ids[label]


def _index(kind: str, index: int, size: int) -> int:
    if not 0 <= index < size:
        raise UserError(f"there is no such {kind}", got=index, allowed=f"0 to {size - 1}")
    return index
