"""Packs in MLflow: the folder as an artifact of the run that wrote it, named by its digest."""

import mlflow

from registry.pack_folder import StoredPack


def log_pack(stored: StoredPack) -> None:
    mlflow.log_artifacts(str(stored.directory), "pack")
    mlflow.set_tag("exported_pack", stored.digest)
