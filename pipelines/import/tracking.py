"""Imports in MLflow: the run says which pack it registered."""

import mlflow

from registry.pack_folder import StoredPack
from registry.records import PACK_TAG


def log_import(stored: StoredPack) -> None:
    mlflow.set_tag(PACK_TAG, stored.digest)
