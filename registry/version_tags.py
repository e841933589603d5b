"""Version tags as MLflow keeps them: those that a person decides by in sight, all others where its pages hide them.

MLflow's page of a version shows no tag whose key begins with ``mlflow.``; its list of versions has a line for every
tag, so what is known at registration stands in one, ``mlflow.trusttrace.lineage``. Programs read all by the same names.
Versions of earlier commits have each in a tag of its own, hidden or in sight.
"""

import json
from collections.abc import Mapping

from registry.errors import CorruptFile

HIDDEN = "mlflow.trusttrace."
RECORD = f"{HIDDEN}lineage"
LINEAGE_TAGS = frozenset(
    {
        *("model", "checkpoint_revision", "weights_digest", "statements_digest", "statements_source", "run_id"),
        *("code_commit", "n_train", "target", "target_digest", "protocol", "split", "d_model", "unit_digest"),
        *("template", "pooling", "imported_from", "pack_digest"),
    }
)
"""Known when a version is registered, and never changed."""
MEASURED_TAGS = frozenset({"calibration", "text_verdict", "role_on_text", "joint_limit", "example"})
"""Written later, by several commands. In sight are dimension, layer, checkpoint and its step, method, recommended
strength, whether it works on text, why it was promoted, and whatever somebody else tagged."""
RETIRED_TAGS = frozenset({"calibrated_range", "calibration_run", "text_verdict_run", "joint_strength"})
"""Written by earlier commits beside the records that say the same, and stale once those are written anew."""


def stored_key(name: str) -> str:
    """The key of a tag that is set after registration."""
    return f"{HIDDEN}{name}" if name in LINEAGE_TAGS | MEASURED_TAGS else name


def stored_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a new version as MLflow keeps them."""
    lineage = {name: value for name, value in tags.items() if name in LINEAGE_TAGS}
    others = {stored_key(name): value for name, value in tags.items() if name not in LINEAGE_TAGS | RETIRED_TAGS}
    return others | ({RECORD: json.dumps(lineage, sort_keys=True)} if lineage else {})


def named_tags(stored: Mapping[str, str]) -> dict[str, str]:
    """The inverse. A tag in sight wins: of an earlier commit, or set by hand, which is then held against the file."""
    hidden = {key.removeprefix(HIDDEN): value for key, value in stored.items() if key.startswith(HIDDEN)}
    shown = {key: value for key, value in stored.items() if not key.startswith(HIDDEN)}
    record = hidden.pop(RECORD.removeprefix(HIDDEN), "{}")
    return _read(record) | hidden | shown


def retired_keys(stored: Mapping[str, str]) -> list[str]:
    """The keys of tags that are no longer written."""
    return [key for key in stored if key.removeprefix(HIDDEN) in RETIRED_TAGS]


def _read(record: str) -> dict[str, str]:
    try:
        lineage = json.loads(record)
    except ValueError as error:
        raise _unreadable(str(error)) from error
    if not isinstance(lineage, dict) or not all(isinstance(value, str) for value in lineage.values()):
        raise _unreadable("no object of texts")
    return lineage


def _unreadable(reason: str) -> CorruptFile:
    return CorruptFile(f"the tag {RECORD} cannot be read ({reason}); delete the version and register the vector again")
