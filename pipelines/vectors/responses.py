"""Directions read where text is made: on the tokens of answers, most of which the model wrote itself."""

from collections.abc import Iterator, Sequence

import numpy as np

from pipelines.behaviours.contrast import ContrastSet, contrast_set
from pipelines.behaviours.names import has_behaviour, require_behaviour
from pipelines.behaviours.packaged import behaviour_of
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.model_io.activations import extract_answers
from pipelines.vectors.methods import RESPONSE_MEAN, FittedDirection, FittedTexts
from serving.model.language_model import LanguageModel


def reads_responses(dimension: str, methods: Sequence[str]) -> bool:
    """Whether ``dimension`` has a direction by response-mean among ``methods``.

    A dimension without a behaviour is left to the other methods. Raises ``InvalidInput`` where there are none.
    """
    if set(methods) == {RESPONSE_MEAN}:
        require_behaviour(dimension)
    return RESPONSE_MEAN in methods and has_behaviour(dimension)


def response_directions(
    model: LanguageModel, dimension: str, layers: Sequence[int]
) -> Iterator[tuple[int, FittedDirection]]:
    """For each layer the mean difference between trustworthy and untrustworthy answers of ``model``.

    A direction is read at the mean over an answer's tokens (Chen et al. 2025, persona vectors), and added at each.
    """
    contrast = contrast_set(model, behaviour_of(dimension))
    yield from directions_of(model, contrast, layers)


def directions_of(
    model: LanguageModel, contrast: ContrastSet, layers: Sequence[int]
) -> Iterator[tuple[int, FittedDirection]]:
    prompts = [pair.prompt for pair in contrast.pairs]
    trustworthy = extract_answers(model, prompts, [pair.trustworthy for pair in contrast.pairs], layers=layers)
    untrustworthy = extract_answers(model, prompts, [pair.untrustworthy for pair in contrast.pairs], layers=layers)
    labels = np.repeat([True, False], len(prompts))
    for layer in layers:
        mean = fit_mass_mean(np.concatenate([trustworthy.layer(layer), untrustworthy.layer(layer)]), labels)
        texts = FittedTexts(contrast.source, contrast.digest, len(labels), mean.mean_difference_norm)
        yield layer, FittedDirection(RESPONSE_MEAN, 0, mean.direction, mean.scale, mean.projection_mean, texts)
