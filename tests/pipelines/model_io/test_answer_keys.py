"""Answer keys: everything that decides what a model made gives another name."""

from types import SimpleNamespace

import torch

from pipelines.model_io import answer_keys
from pipelines.model_io.answer_keys import answer_key


def test_files_precision_and_content_each_decide(monkeypatch):
    monkeypatch.setattr(answer_keys, "identity_of", lambda checkpoint: {"model.safetensors": checkpoint})
    models = [SimpleNamespace(checkpoint=name, dtype=kind) for name in "ab" for kind in (torch.float32, torch.bfloat16)]
    contents = ({"recipe": 1, "texts": ["x"]}, {"recipe": 2, "texts": ["x"]}, {"recipe": 1, "texts": ["y"]})
    keys = [answer_key(model, content) for model in models for content in contents]
    assert len(set(keys)) == len(keys) == 12
    assert answer_key(models[0], dict(reversed(contents[0].items()))) == keys[0]
