"""Shipped packs: vectors that come with the service, imported into a registry that has none of the served model.

A registry with vectors of the model is a team's: it is read, and nothing is written there.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from registry.errors import TrustTraceError
from registry.pack_exchange import import_pack, import_run, is_wanted
from registry.pack_folder import StoredPack, read_pack
from registry.store import VectorStore
from serving.steering.compatibility import ModelFacts

logger = logging.getLogger(__name__)

SHIPPED = Path(__file__).parents[1] / "packs"
"""One pack a model, in the folder of its name."""
BY_NAME, OFF = "shipped", "none"
"""The settings that are no folder: the pack of the served model's name, and none."""

State = Literal["off", "none", "not needed", "imported", "failed"]


@dataclass(frozen=True)
class PackSupply:
    """What became of the pack when the registry was first reached."""

    state: State
    message: str
    digest: str = ""


Supply = Callable[[VectorStore], PackSupply]


def supply_vectors(setting: str, model: ModelFacts, store: VectorStore) -> PackSupply:
    """Import the pack that ``setting`` names for ``model`` where the registry has no vectors of it.

    ``setting`` is ``shipped``, ``none`` or a folder. Raises ``Unavailable`` when the registry cannot be read; whatever
    else goes wrong is the outcome, because a service steers without a pack as well as it can.
    """
    supply = _supplied(setting, model, store)
    level = logging.ERROR if supply.state == "failed" else logging.INFO
    logger.log(level, "pack: %s", supply.message)
    return supply


def _supplied(setting: str, model: ModelFacts, store: VectorStore) -> PackSupply:
    if setting == OFF:
        return PackSupply("off", "TRUSTTRACE_PACK is none: no pack is imported")
    directory = SHIPPED / model.name if setting == BY_NAME else Path(setting).expanduser()
    if setting == BY_NAME and not directory.is_dir():
        return PackSupply("none", f"no pack of {model.name} is shipped")
    try:
        stored = read_pack(directory)
        stored.pack.model.require_is(model.name, model.weights_digest)
    except TrustTraceError as error:
        return PackSupply("failed", str(error))
    if not is_wanted(store, stored):
        return PackSupply("not needed", f"the registry has vectors of {model.name}: no pack is imported", stored.digest)
    return _imported(stored, model)


def _imported(stored: StoredPack, model: ModelFacts) -> PackSupply:
    where = f"the pack of {model.name} in {stored.directory}, SHA-256 {stored.digest[:12]}"
    try:
        with import_run(stored):
            result = import_pack(stored, model.checkpoint, model.weights_digest)
    except TrustTraceError as error:
        return PackSupply("failed", f"{where}, could not be imported: {error}", stored.digest)
    except Exception as error:  # whatever a registry says to one who may not write there
        logger.exception("the pack could not be imported")
        return PackSupply("failed", f"{where}, could not be imported ({type(error).__name__})", stored.digest)
    names = ", ".join(version.dimension for version in result.vectors)
    return PackSupply(
        "imported", f"the registry had no vectors of {model.name}; imported {where}: {names}", stored.digest
    )
