"""Import options: what a user may choose; see ``python -m pipelines.import --help``."""

from dataclasses import dataclass

from pipelines.cli.options import MODEL
from pipelines.cli.parameters import Options, parameter


@dataclass(frozen=True)
class ImportOptions(Options):
    """A pack to register."""

    pack: str = parameter("packs/smollm2", "a folder that export wrote")
    model: str | None = parameter(None, f"where the model lies here, if not where the pack says: {MODEL}")
