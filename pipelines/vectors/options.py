"""Vector options: what a user may choose; see ``python -m pipelines.vectors --help``."""

from dataclasses import dataclass

from pipelines.behaviours.answers import answers_in_file, files_by_dimension
from pipelines.cli.options import LOOK, Look, SeriesOptions
from pipelines.cli.parameters import Options, group, parameter
from pipelines.statements.options import StatementsOptions
from pipelines.sweep.protocol import FittingProtocol
from registry.errors import InvalidInput
from serving.model.placement import Placement


@dataclass(frozen=True)
class VectorOptions(Options):
    """The extraction of vectors."""

    series: SeriesOptions = group(SeriesOptions("tiny", "last"))
    statements: StatementsOptions = group(StatementsOptions)
    layers: str = parameter(
        "best", "best (of the deeper half, by probe), champion, numbers, or a range such as 10-14: one vector over it"
    )
    methods: str = parameter(
        "all", "all, or of mass-mean,mean-centred,pca,logistic,lda,response-mean,persona,optimised"
    )
    answers: tuple[str, ...] = parameter((), "files of answers for response-mean, such as toxicity=./answers.csv")
    controls: int = parameter(1, "so many random and so many shuffled-label vectors")
    target: str | None = parameter(None, "another model of this width that the vectors are for")
    protocol: FittingProtocol = group(FittingProtocol(), only=("seeds",))
    placement: Placement = group(Placement(), only=("precision", "device"))
    figures: Look = parameter("screen", LOOK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.controls < 0:
            raise InvalidInput(f"controls is {self.controls}; give how many of each kind to register, 0 for none")
        if self.methods == "none" and not self.controls:
            raise InvalidInput(
                "`methods` is none and `controls` is 0, which leaves no vector to make; give methods=all"
            )
        for method in ("response-mean", "persona", "optimised"):
            if self.target and method in self.methods:
                raise InvalidInput(
                    f"`methods` {method} reads a model's own answers: give model={self.target} and no `target`"
                )
        for dimension, path in files_by_dimension(self.answers).items():
            if dimension not in [chosen.name for chosen in self.statements.chosen]:
                raise InvalidInput(f"answers are given of {dimension}, which is not among `dimensions`; add it")
            answers_in_file(path, dimension)
            if "response-mean" not in self.methods:
                raise InvalidInput("answers are read by response-mean alone: give methods=response-mean")
