"""Attributes one example on a model that belongs to the caller, and leaves the model as it was."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedModel

from attattr_batch.data.records import EncodedExample
from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.devices import check_dtype
from attattr_batch.engine.families import collate, encoder_for
from attattr_batch.engine.models import check_outputs
from attattr_batch.engine.path import Items, class_probability
from attattr_batch.engine.precision import arithmetic
from attattr_batch.engine.statistics import full_scores
from attattr_batch.errors import UserError
from attattr_batch.spec import MethodSettings


@dataclass(frozen=True, eq=False)
class Matrices:
    """The attribution of one example.

    Attributes:
        scores: Attribution, float32 [layer, head, query, key].
        attention: Clean attention probabilities, of the same shape.
        probabilities: Class probabilities, float32 [label].
        label: Class that was attributed.
        f_zero: Its probability with a layer's attention scaled to zero, float32 [layer].
        completeness_error: sum(scores) - (f_full - f_zero), float32 [layer].
        nodes: Nodes of the accepted rule [layer].
    """

    scores: NDArray[np.float32]
    attention: NDArray[np.float32]
    probabilities: NDArray[np.float32]
    label: int
    f_zero: NDArray[np.float32]
    completeness_error: NDArray[np.float32]
    nodes: NDArray[np.int64]


def check_classifier(model: object) -> None:
    """Refuses a model without class probabilities, or in half precision.

    Raises:
        UserError: not a sequence classifier of transformers, outputs that are no class scores, or half
            precision.
    """
    allowed = "a `*ForSequenceClassification` of transformers, loaded with `dtype=torch.float32`"
    if not isinstance(model, PreTrainedModel):
        raise UserError("not a model of transformers", got=type(model).__name__, allowed=allowed)
    classifier = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(model.config), None)
    if classifier is None or not isinstance(model, classifier):
        raise UserError("the model is no sequence classifier", got=type(model).__name__, allowed=allowed)
    check_outputs(model.config)
    if model.dtype not in (torch.float32, torch.float64):
        raise UserError("the model is in half precision", got=model.dtype, hint="call `model.float()` first")


def attribute_example(
    model: PreTrainedModel, example: EncodedExample, label: int | None, method: MethodSettings
) -> Matrices:
    """Attributes the probability of one class; None stands for the predicted class.

    Gradients are switched on during the call, whatever mode the caller is in.

    Raises:
        UserError: the model's family is not supported, or its device cannot do the arithmetic.
        TerminalError: the model's outputs are not numbers.
    """
    check_dtype(method.dtype, model.device.type)
    with (
        _at_rest(model),
        torch.inference_mode(False),
        torch.enable_grad(),
        arithmetic("float32", model.device),
    ):
        encoder = encoder_for(model)
        trace = encoder.trace(collate([example], encoder.pad_token_id, encoder.device))
        every = torch.arange(encoder.n_labels, device=encoder.device)
        probabilities = class_probability(trace.logits.detach().expand(len(every), -1), every)
        chosen = int(probabilities.argmax()) if label is None else label
        row = torch.zeros(1, dtype=torch.long, device=encoder.device)
        items = Items(row, row + chosen)
        layers = list(attribute_layers(trace, items, method))
    return Matrices(
        scores=_stacked([full_scores(layer) for layer in layers]),
        attention=_stacked([layer.attention for layer in layers]),
        probabilities=probabilities.float().cpu().numpy(),
        label=chosen,
        f_zero=_stacked([layer.f_zero for layer in layers]),
        completeness_error=_stacked([layer.completeness_error for layer in layers]),
        nodes=torch.cat([layer.nodes for layer in layers]).cpu().numpy(),
    )


def _stacked(of_one_item: Sequence[Tensor]) -> NDArray[np.float32]:
    return torch.cat(list(of_one_item)).detach().float().cpu().numpy()


@contextmanager
def _at_rest(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without parameter gradients; both are put back afterwards."""
    training = [module for module in model.modules() if module.training]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in trained:
            parameter.requires_grad_(True)
