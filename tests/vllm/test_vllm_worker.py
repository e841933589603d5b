"""What the worker extension takes from vLLM's own classes, for the runner that cannot run here."""

from dataclasses import replace
from inspect import signature
from types import SimpleNamespace

import numpy as np
import torch

from serving.engine.vllm.rows import KEY
from serving.engine.vllm.step import Step

STEERED = {"rows": [1], "coefficients": [[1.0], [2.0], [3.0]]}


def step_with_one_request():
    step = Step(tokens=16, rows=2, device=torch.device("cpu"))
    step.layer_of[1] = 5
    parameters = SimpleNamespace(extra_args={KEY: STEERED})
    new = SimpleNamespace(req_id="a", prompt_token_ids=[1] * 4, sampling_params=parameters)
    step.admit(SimpleNamespace(scheduled_new_reqs=[new], finished_req_ids=set()))
    return step


def test_the_second_runners_own_batch_fills_the_step():
    from vllm.v1.worker.gpu.input_batch import InputBatch, InputBuffers

    from serving.engine.vllm.worker import _prepare_v2

    dummy = InputBatch.make_dummy(2, 6, InputBuffers(4, 16, torch.device("cpu")))
    counts = {"num_computed_tokens_np": np.array([9, 2]), "num_scheduled_tokens": np.array([1, 3], np.int32)}
    batch = replace(dummy, req_ids=["b", "a"], **counts)
    step = step_with_one_request()
    assert _prepare_v2(step, lambda *_, **__: batch, "scheduled", batch_desc=None) is batch
    assert step.coefficients[:, 1].tolist() == [0, 1, 2, 3] + [0] * 12
    assert step.layers == {5}


def test_a_read_step_runs_without_a_graph():
    from vllm.config import CUDAGraphMode
    from vllm.v1.worker.gpu.cudagraph_utils import BatchExecutionDescriptor, CudaGraphManager

    from serving.engine.vllm.worker import _without_graph_v2

    captured = BatchExecutionDescriptor(cg_mode=CUDAGraphMode.FULL, num_tokens=8, num_reqs=8)
    found = _without_graph_v2(lambda *_, **__: captured, 3, 5, None, num_active_loras=0)
    assert (found.cg_mode, found.num_tokens, found.num_reqs) == (CUDAGraphMode.NONE, 5, 3)
    assert list(signature(CudaGraphManager.dispatch).parameters)[1:3] == ["num_reqs", "num_tokens"]


def test_both_runners_have_what_is_wrapped():
    from vllm.v1.worker.gpu.model_runner import GPUModelRunner as Second
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner as First

    assert list(signature(First._prepare_inputs).parameters) == ["self", "scheduler_output", "num_scheduled_tokens"]
    assert "force_eager" in signature(First._determine_batch_execution_and_padding).parameters
    assert callable(Second.prepare_inputs)
    assert callable(Second.get_model) and callable(First.get_model)
