"""Suite of tasks, and how a condition is read for all of them: likelihoods in batches, continuations by the engine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from torch import Tensor

from pipelines.behaviours.pii import personal_details
from pipelines.behaviours.toxicity_classifier import Judges
from pipelines.evaluate.measurement import Measurement
from pipelines.evaluate.tasks.ability import ability_tasks, robustness_tasks
from pipelines.evaluate.tasks.choices import statements_task
from pipelines.evaluate.tasks.fairness import fairness_tasks
from pipelines.evaluate.tasks.fluency import continuations_task, perplexity_task
from pipelines.evaluate.tasks.privacy import privacy_tasks
from pipelines.evaluate.tasks.refusal import refusal_tasks
from pipelines.evaluate.tasks.reliability import reliability_tasks
from pipelines.evaluate.tasks.task import Task, TaskReading
from pipelines.evaluate.tasks.toxicity import toxicity_tasks
from pipelines.model_io.continuations import Answers, written_answers
from pipelines.model_io.likelihoods import NO_LIKELIHOODS, Likelihoods, likelihoods
from pipelines.statements.labelled import LabelledStatements
from pipelines.statements.prose import prose_for
from registry.dimensions import FAIRNESS, PRIVACY, RELIABILITY, ROBUSTNESS, TOXICITY
from serving.engine.base import GenerationRequest, Sampling
from serving.model.language_model import LanguageModel
from serving.steering.bank import SteeringBank
from serving.steering.plan import SteeringPlan


@dataclass(frozen=True)
class SuiteTexts:
    """What an evaluation may use: held-out statements, and all texts that a vector may have seen."""

    held_out: Mapping[str, LabelledStatements]
    seen: tuple[str, ...]


def all_tasks(
    texts: SuiteTexts,
    classifier: Judges,
    *,
    limit: int,
    prompts: int,
    beside: int = 0,
    details: Callable[[str], tuple[str, ...]] = personal_details,
) -> tuple[Task, ...]:
    """The tasks of every dimension of ``texts``, of ability, refusals and fluency; ``limit`` items of each set.

    Of what is beside the dimensions ``beside`` questions and requests, where it is more.
    """
    packaged = {
        RELIABILITY.name: lambda: reliability_tasks(texts.held_out[RELIABILITY.name], limit, prompts),
        PRIVACY.name: lambda: privacy_tasks(prompts, details),
        TOXICITY.name: lambda: toxicity_tasks(classifier, prompts),
        FAIRNESS.name: lambda: fairness_tasks(texts.seen, limit),
        ROBUSTNESS.name: lambda: robustness_tasks(limit),
    }
    tasks = [statements_task(labelled) for labelled in texts.held_out.values()]
    tasks += chain.from_iterable(packaged[name]() for name in texts.held_out if name in packaged)
    sentences = prose_for("evaluation", texts.seen)[: max(limit, prompts)]
    tasks += [*ability_tasks(max(limit, beside)), *refusal_tasks(max(prompts, beside))]
    return (*tasks, perplexity_task(sentences), continuations_task(sentences[:prompts]))


def read_texts(
    model: LanguageModel, texts: Sequence[str], offsets: Mapping[int, Tensor], prefix: str = ""
) -> Likelihoods:
    """Log-probabilities of ``texts`` under steering, or after a ``prefix`` whose own log-probability is left out."""
    if not texts:
        return NO_LIKELIHOODS
    if not prefix:
        return likelihoods(model, texts, offsets)
    whole = likelihoods(model, [f"{prefix} {text}" for text in texts], offsets)
    alone = likelihoods(model, [prefix], offsets)
    return Likelihoods(whole.log_probabilities - alone.log_probabilities[0], whole.tokens - alone.tokens[0])


def continue_prompts(
    model: LanguageModel, tasks: Sequence[Task], plan: SteeringPlan | None, prefix: str = ""
) -> list[Answers]:
    """Greedy continuations of every task's prompts by the engine that serves, under its plan."""
    steering = plan or SteeringPlan(SteeringBank(model.facts))
    requests = [[request_for(model, prompt, task, steering, prefix) for prompt in task.prompts] for task in tasks]
    return written_answers(model, requests)


def request_for(
    model: LanguageModel, prompt: str, task: Task, plan: SteeringPlan, prefix: str = ""
) -> GenerationRequest:
    """A greedy request for one prompt of ``task``; a question is put in the model's chat template, if it has one."""
    text = f"{prefix} {prompt}" if prefix else prompt
    if task.asks and getattr(model.tokenizer, "chat_template", None):
        turn = [{"role": "user", "content": text}]
        text = str(model.tokenizer.apply_chat_template(turn, add_generation_prompt=True, tokenize=False))
        tokens = tuple(model.tokenizer(text, add_special_tokens=False)["input_ids"])
    else:
        tokens = tuple(model.tokenizer(text)["input_ids"])
    return GenerationRequest(tokens, Sampling(task.tokens, temperature=0.0), plan)


def measure_tasks(
    model: LanguageModel,
    tasks: Sequence[Task],
    *,
    offsets: Mapping[int, Tensor] | None = None,
    plan: SteeringPlan | None = None,
    prefix: str = "",
) -> tuple[Measurement, ...]:
    """Read every text once and continue every prompt, then let each task score what is its own."""
    unique = {text: row for row, text in enumerate(dict.fromkeys(chain.from_iterable(task.texts for task in tasks)))}
    likely = read_texts(model, list(unique), offsets or {}, prefix)
    continuations = continue_prompts(model, tasks, plan, prefix)
    measured: list[Measurement] = []
    for task, continued in zip(tasks, continuations, strict=True):
        rows = np.array([unique[text] for text in task.texts], np.int64)
        reading = TaskReading(likely.log_probabilities[rows], likely.tokens[rows], continued, task.clean_answers)
        measured += task.measure(reading)
    return tuple(measured)
