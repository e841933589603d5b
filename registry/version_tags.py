"""Version tags as MLflow keeps them: those that a person decides by in sight, all others where its pages hide them.

MLflow's pages show no tag whose key begins with ``mlflow.``. Programs read both kinds by the same names; versions of
earlier commits have all of them in sight.
"""

from collections.abc import Mapping

HIDDEN = "mlflow.trusttrace."
MACHINE_TAGS = frozenset(
    {
        *("model", "checkpoint_revision", "weights_digest", "statements_digest", "statements_source", "run_id"),
        *("code_commit", "n_train", "target", "target_digest", "protocol", "split", "d_model", "unit_digest"),
        *("calibration", "calibrated_range", "calibration_run", "text_verdict", "text_verdict_run"),
        *("joint_limit", "joint_strength", "example", "imported_from", "pack_digest"),
    }
)
"""Hidden tags of a vector's version. In sight are dimension, layer, checkpoint and its step, method, recommended
strength, whether it works on text, why it was promoted, and whatever somebody else tagged."""


def stored_key(name: str) -> str:
    return f"{HIDDEN}{name}" if name in MACHINE_TAGS else name


def stored_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """``tags`` by the keys that MLflow keeps them under."""
    return {stored_key(name): value for name, value in tags.items()}


def named_tags(stored: Mapping[str, str]) -> dict[str, str]:
    """The inverse. A tag in sight wins: of an earlier commit, or set by hand, which is then held against the file."""
    hidden = {key.removeprefix(HIDDEN): value for key, value in stored.items() if key.startswith(HIDDEN)}
    return hidden | {key: value for key, value in stored.items() if not key.startswith(HIDDEN)}
