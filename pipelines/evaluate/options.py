"""Evaluation options: what a user may choose; see ``python -m pipelines.evaluate --help``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pipelines.behaviours.names import require_behaviour
from pipelines.calibrate.options import By
from pipelines.cli.options import LOOK, CheckpointOptions, Look
from pipelines.cli.parameters import Options, group, parameter
from pipelines.statements.options import StatementsOptions
from registry.errors import InvalidInput, unknown_name
from serving.model.placement import Placement


@dataclass(frozen=True)
class EvaluateOptions(Options):
    """The evaluation experiment."""

    checkpoint: CheckpointOptions = group(CheckpointOptions())
    statements: StatementsOptions = group(StatementsOptions)
    vectors: tuple[str, ...] = parameter((), "further vectors, such as steer.tiny.toxicity/3, by commas")
    finetuned: tuple[str, ...] = parameter((), "directories of fine-tuned models, by commas")
    trace: str | None = parameter(None, "checkpoints whose own directions to try, such as log:12")
    source: str | None = parameter(None, "the series that trace is of, if not the model's own")
    classifier: str = parameter("packaged", "of toxicity: packaged, a hub id or a directory")
    harness: tuple[str, ...] = parameter((), "tasks of lm-evaluation-harness, or YAML files, by commas")
    pii: Literal["packaged", "presidio"] = parameter("packaged", "detector of personal details: packaged or presidio")
    judge: str | None = parameter(None, "an OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1")
    judge_model: str = parameter("default", "the model that the endpoint is asked for")
    by: By = parameter("auto", "what decides: statements, text written, or auto, as for each champion")
    answers: int = parameter(200, "prompts of each behaviour, where text decides")
    directions: int = parameter(39, "random directions of equal perplexity cost, where text decides")
    sheets: int = parameter(0, "so many pairs of texts per dimension, for people to judge blindly")
    margin: float = parameter(0.5, "nats that another dimension's preference may move and be unharmed")
    margin_accuracy: float = parameter(0.1, "the same of accuracies in general ability, from 0 to 1")
    random: int = parameter(5, "random directions beside each vector")
    items: int = parameter(60, "items of each benchmark")
    prompts: int = parameter(30, "texts of each kind to have continued")
    beside: int = parameter(0, "items of ability and requests that may be refused, if more than items and prompts")
    seed: int = parameter(0, "of the random directions")
    placement: Placement = group(Placement(), only=("precision", "device"))
    figures: Look = parameter("screen", LOOK)

    def __post_init__(self) -> None:
        super().__post_init__()
        least = {"items": 2, "prompts": 2, "random": 0, "answers": 2, "directions": 0, "sheets": 0, "beside": 0}
        for name, limit in least.items():
            if getattr(self, name) < limit:
                raise InvalidInput(f"{name} is {getattr(self, name)} and must be at least {limit}")
        for name, margin in (("margin", self.margin), ("margin_accuracy", self.margin_accuracy)):
            if not margin > 0:
                raise InvalidInput(f"{name} is {margin} and must be above 0: nothing is measured exactly")
        if self.margin_accuracy >= 1:
            raise InvalidInput(
                f"margin_accuracy is {self.margin_accuracy} and must be below 1: no share moves by more, so all would "
                "be unharmed"
            )
        is_path = "/" not in self.classifier or self.classifier.startswith((".", "/", "~"))
        if is_path and self.classifier != "packaged" and not Path(self.classifier).expanduser().exists():
            raise unknown_name("classifier", self.classifier, ("packaged", "a hub id such as org/name", "a directory"))
        if self.source is not None and self.trace is None:
            raise InvalidInput(f"`source` {self.source} is the series that `trace` is of; give trace=log:12 too")
        if self.judge is None and self.judge_model != "default":
            raise InvalidInput(
                f"`judge_model` {self.judge_model} is asked for at `judge`; give judge=http://127.0.0.1:8000/v1 too"
            )
        for dimension in self.statements.chosen if self.by == "text" else ():
            require_behaviour(dimension.name)
