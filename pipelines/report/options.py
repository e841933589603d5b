"""Report options: what a user may choose; see ``python -m pipelines.report --help``."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from pipelines.cli.parameters import Options, parameter
from registry.errors import InvalidInput


@dataclass(frozen=True)
class ReportOptions(Options):
    """The page about a model."""

    model: str = parameter("smollm2", "as it was given to the other commands")
    output: str | None = parameter(None, "a file to write beside what is logged")

    def __post_init__(self) -> None:
        super().__post_init__()
        file_to_write(self.output)


def file_to_write(output: str | None) -> Path | None:
    """Where the page is written. Raises ``InvalidInput`` where no file can be, before hours of work for it."""
    if output is None:
        return None
    path = Path(output).expanduser()
    if path.is_dir():
        raise InvalidInput(f"`output` {output} is a directory; give a file, such as {path / 'report.html'}")
    if not path.parent.is_dir():
        parent = shlex.quote(str(path.parent))
        raise InvalidInput(f"`output` {output} lies in no directory; make it: mkdir -p {parent}")
    return path
