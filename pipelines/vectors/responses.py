"""Directions read where text is made: on the tokens of answers, most of which the model wrote itself."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np
from jinja2 import TemplateError

from pipelines.behaviours.answers import AnswerSet, ChatTurn, PromptedAnswer, answers_in_file
from pipelines.behaviours.behaviour import Behaviour
from pipelines.behaviours.contrast import ContrastSet, contrast_set
from pipelines.behaviours.names import has_behaviour, require_behaviour
from pipelines.behaviours.packaged import behaviour_of
from pipelines.behaviours.persona import persona_set
from pipelines.estimators.mass_mean import fit_mass_mean
from pipelines.model_io.activations import Activations, extract_answers
from pipelines.statements.prose import background_prose
from pipelines.vectors.methods import (
    OPTIMISED,
    PERSONA,
    RESPONSE_MEAN,
    RESPONSE_METHODS,
    FittedDirection,
    FittedTexts,
)
from pipelines.vectors.optimised import trained_vector
from registry.errors import InvalidInput
from serving.model.language_model import LanguageModel

MOST_TRAINED = 3
NO_FILES: Mapping[str, Path] = MappingProxyType({})


def response_methods(dimension: str, methods: Sequence[str], files: Mapping[str, Path] = NO_FILES) -> tuple[str, ...]:
    """Those of ``methods`` that ``dimension`` has directions by on answers; ``files`` are the user's, by dimension.

    A dimension without a behaviour is left to the other methods. Raises ``InvalidInput`` where there are none.
    """
    wanted = [method for method in RESPONSE_METHODS if method in methods]
    able = [method for method in wanted if has_behaviour(dimension) or (method == RESPONSE_MEAN and dimension in files)]
    if set(methods) == set(wanted) and wanted and not able:
        files_given = f"methods=response-mean with answers={dimension}=<a file of prompt,response,label>"
        instead = f"methods=mass-mean, to `vectors` {files_given}"
        require_behaviour(dimension, instead=instead)
    return tuple(able)


def response_directions(
    model: LanguageModel,
    dimension: str,
    layers: Sequence[int],
    methods: Sequence[str],
    files: Mapping[str, Path] = NO_FILES,
) -> Iterator[tuple[int, FittedDirection]]:
    """For each method and layer the mean difference between trustworthy and untrustworthy answers.

    A direction is read at the mean over an answer's tokens (Chen et al. 2025, persona vectors), and added at each.
    ``response-mean`` reads the user's answers where there are any, else answers of ``model`` to the same prompts;
    ``persona`` its answers under instructions of opposite sense. ``optimised`` is trained, at each of up to three
    ``layers``, of more at the middle one alone, for it takes minutes.
    """
    if RESPONSE_MEAN in methods and dimension in files:
        given = answers_in_file(files[dimension], dimension)
        yield from directions_of(model, RESPONSE_MEAN, given, given, given.digest, layers)
    elif RESPONSE_MEAN in methods:
        contrast = contrast_set(model, behaviour_of(dimension, model))
        answers = prompted(contrast)
        yield from directions_of(model, RESPONSE_MEAN, answers, answers, contrast.digest, layers)
    if PERSONA in methods:
        persona = persona_set(model, behaviour_of(dimension, model))
        yield from directions_of(model, PERSONA, persona, without_instructions(persona), persona.digest, layers)
    if OPTIMISED in methods:
        for layer in trained_at(layers):
            yield layer, optimised_direction(model, behaviour_of(dimension, model), layer)


def trained_at(layers: Sequence[int]) -> tuple[int, ...]:
    """The layers of ``layers`` at which a vector is trained: each of a few, else the middle one."""
    ordered = tuple(sorted(layers))
    return ordered if len(ordered) <= MOST_TRAINED else (ordered[len(ordered) // 2],)


def directions_of(
    model: LanguageModel,
    method: str,
    answers: AnswerSet,
    monitored: AnswerSet,
    digest: str,
    layers: Sequence[int],
) -> Iterator[tuple[int, FittedDirection]]:
    """``monitored`` are the answers as a monitor reads them; ``digest`` is that of their texts."""
    read = [_read(model, given, layers) for given in (answers.trustworthy, answers.untrustworthy)]
    labels = np.repeat([True, False], [len(answers.trustworthy), len(answers.untrustworthy)])
    for layer in layers:
        mean = fit_mass_mean(np.concatenate([states.layer(layer) for states in read]), labels)
        norm = mean.mean_difference_norm
        texts = FittedTexts(answers.source, digest, len(labels), norm, answers.template, monitored)
        yield layer, FittedDirection(method, 0, mean.direction, mean.scale, mean.projection_mean, texts)


def optimised_direction(model: LanguageModel, behaviour: Behaviour, layer: int) -> FittedDirection:
    """The direction of a vector that is trained on answers to the prompts of ``behaviour``.

    Its length is not kept, for strengths are tried. Where an answer ends by itself, the cost is of the trustworthy ones
    too, and of what follows them: else a vector has the model go on after it has answered.
    """
    contrast = contrast_set(model, behaviour)
    ending = [f"{pair.prompt}{pair.trustworthy}" for pair in contrast.pairs] if behaviour.ends else []
    answers = prompted(contrast)
    states = [_read(model, given, [layer]).layer(layer) for given in (answers.trustworthy, answers.untrustworthy)]
    features = np.concatenate(states)
    mean = fit_mass_mean(features, np.repeat([True, False], len(contrast.pairs)))
    start = (mean.mean_difference_norm * mean.direction).astype(np.float32)
    vector = trained_vector(model, contrast, (*background_prose(), *ending), start, layer)
    unit = vector / np.linalg.norm(vector)
    projections = features @ unit
    texts = FittedTexts(contrast.source, contrast.digest, len(features), mean.mean_difference_norm, monitored=answers)
    return FittedDirection(OPTIMISED, 0, unit, float(projections.std(ddof=1)), float(projections.mean()), texts)


def prompted(contrast: ContrastSet) -> AnswerSet:
    """The pairs of a contrast set as answers."""
    good = tuple(PromptedAnswer(pair.prompt, pair.trustworthy) for pair in contrast.pairs)
    bad = tuple(PromptedAnswer(pair.prompt, pair.untrustworthy) for pair in contrast.pairs)
    return AnswerSet(contrast.dimension, contrast.source, good, bad)


def without_instructions(persona: AnswerSet) -> AnswerSet:
    """The answers after their prompts alone: nobody who is monitored gives the instructions, which a probe would read.

    An instruction is the first line of its prompt.
    """
    kinds = (persona.trustworthy, persona.untrustworthy)
    good, bad = (
        tuple(PromptedAnswer(answer.prompt.partition("\n")[2], answer.text) for answer in answers) for answers in kinds
    )
    return AnswerSet(persona.dimension, persona.source, good, bad)


def _read(model: LanguageModel, answers: Sequence[PromptedAnswer], layers: Sequence[int]) -> Activations:
    return extract_answers(model, prompts_of(model, answers), [answer.text for answer in answers], layers=layers)


def prompts_of(model: LanguageModel, answers: Sequence[PromptedAnswer]) -> list[str]:
    """What the model reads before each answer. Raises ``InvalidInput`` for chats without a template that takes them."""
    return [_in_template(model, answer.messages) if answer.messages else answer.prompt for answer in answers]


def _in_template(model: LanguageModel, messages: Sequence[ChatTurn]) -> str:
    """A chat as the model reads it before its answer, without the special token that its tokenizer puts first.

    Raises ``InvalidInput`` where there is no template, or where it refuses the chat.
    """
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "chat_template", None):
        raise InvalidInput(f"{model.checkpoint.model} has no chat template; give its prompts as texts, not as chats")
    try:
        text = tokenizer.apply_chat_template(
            [asdict(message) for message in messages], add_generation_prompt=True, tokenize=False
        )
    except TemplateError as error:
        raise InvalidInput(f"the chat template of {model.checkpoint.model} refuses a chat: {error}") from error
    first = tokenizer.bos_token
    is_put = first is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    return str(text).removeprefix(first) if is_put else str(text)
