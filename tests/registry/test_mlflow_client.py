"""What several processes do to one registry at the same moment."""

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from registry.mlflow_client import set_alias


def test_an_alias_given_twice_at_once_is_given(tracking, monkeypatch):
    client = MlflowClient()
    client.create_registered_model("m")
    for _ in range(2):
        client.create_model_version("m", "s3://nowhere/m")
    give, refused = client.set_registered_model_alias, []

    def overtaken(name, alias, version):
        if not refused:
            give(name, alias, "1")
            refused.append(version)
            raise MlflowException("UNIQUE constraint failed: registered_model_aliases")
        give(name, alias, version)

    monkeypatch.setattr(client, "set_registered_model_alias", overtaken)
    set_alias(client, "m", "champion", "2")
    assert refused == ["2"]
    assert int(client.get_model_version_by_alias("m", "champion").version) == 2


def test_what_is_wrong_twice_is_said(tracking):
    with pytest.raises(MlflowException, match="nothing"):
        set_alias(MlflowClient(), "nothing", "champion", "1")
