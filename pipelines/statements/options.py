"""Statement options: which dimensions an experiment works on, and where their statements come from."""

from dataclasses import dataclass
from functools import cached_property

from pipelines.cli.parameters import Options, parameter
from pipelines.statements.choice import choose_dimensions
from registry.dimensions import Dimension
from registry.errors import InvalidInput


@dataclass(frozen=True)
class StatementsOptions(Options):
    """The statements of an experiment. Raises ``UnknownName`` for a dimension that does not exist."""

    dimensions: str = parameter("all", "all that the data stand for, or names separated by commas")
    data: str = parameter("packaged", "packaged, hub, a directory, a file, or dimension=source,…")
    limit: int = parameter(0, "at most so many statements per dimension, 0 for all")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < 0:
            raise InvalidInput(f"`limit` is {self.limit}; give a number of statements, or 0 for all")
        _ = self.chosen

    @cached_property
    def chosen(self) -> tuple[Dimension, ...]:
        """The dimensions asked for."""
        return choose_dimensions(self.dimensions, self.data)
