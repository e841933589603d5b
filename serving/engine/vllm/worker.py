"""The part that runs inside vLLM's workers: it adds ``C @ B[layer]`` to the residual stream of every steered layer.

vLLM mixes ``SteeringExtension`` into its worker class (``worker_extension_cls``). ``C`` holds one coefficient row for
each token of a step and is filled before the step runs; both matrices keep their place in memory, as compiled graphs
and CUDA graphs need. The addition is one opaque operator, called from a forward hook on each decoder block. What
depends on hidden states happens in the same operator (``step_states``): probes read what the block left, then comes the
addition, then tokens are moved.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from vllm.config import CUDAGraphMode
from vllm.model_executor.models.utils import PPMissingLayer
from vllm.utils.torch_utils import direct_register_custom_op

from serving.engine.vllm.rows import KEY
from serving.engine.vllm.step import Step
from serving.model.residual_stream import decoder_blocks

_steered: dict[int, "SteeredLayer"] = {}
"""By the address of the layer's directions, which is all that the operator is told: a number or a name for the layer
would make every layer's graph differ, and be compiled on its own."""


def _steer(states: Tensor, residual: Tensor | None, coefficients: Tensor, directions: Tensor) -> None:
    _steered[directions.data_ptr()].apply(states, residual, coefficients, directions)


def _steer_shapes(*_: Tensor | None) -> None:
    """For tracing: the operator changes what it is given and yields nothing."""


direct_register_custom_op(op_name="trusttrace_steer", op_func=_steer, mutates_args=["states"], fake_impl=_steer_shapes)


def _hook(block: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> None:
    """vLLM's blocks yield what they add and the stream so far, or one tensor with both."""
    states, residual = (output, None) if isinstance(output, Tensor) else (output[0], output[1])
    torch.ops.vllm.trusttrace_steer(states, residual, block.steering_coefficients, block.steering_directions)


class SteeredLayer:
    """One decoder block that this worker holds."""

    def __init__(self, step: Step, layer: int, block: nn.Module, directions: Tensor) -> None:
        self.step, self.layer, self.directions = step, layer, directions
        # Buffers, so that a compiled graph takes them as inputs.
        block.register_buffer("steering_coefficients", step.coefficients, persistent=False)
        block.register_buffer("steering_directions", directions, persistent=False)
        block.register_forward_hook(_hook)
        _steered[directions.data_ptr()] = self

    def apply(self, states: Tensor, residual: Tensor | None, coefficients: Tensor, directions: Tensor) -> None:
        self.step.states.read(self.layer, states, residual)
        if self.layer in self.step.layers or _is_captured(states):
            states.add_((coefficients[: len(states)] @ directions).to(states.dtype))
        self.step.states.move(self.layer, states, residual)
        for span, first, key, layers in self.step.readings:
            if self.layer in layers:
                stream = states[span] if residual is None else states[span] + residual[span]
                self.step.keep(key, self.layer, first, stream)


def _is_captured(states: Tensor) -> bool:
    """A CUDA graph must hold the addition whatever the step that it is captured in."""
    return states.is_cuda and torch.cuda.is_current_stream_capturing()


class SteeringExtension:
    """Becomes a base class of vLLM's worker; its own names begin with ``steering_``."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        worker: Any = super().__new__(cls)
        # Between loading, which builds the blocks, and the first run, which compiles and captures them.
        worker.load_model = partial(_load, worker, worker.load_model)
        worker.execute_model = partial(_execute, worker, worker.execute_model)
        return worker

    def steering_put(self: Any, rows: list[int], layers: list[int], directions: bytes) -> None:
        """Set rows of the matrices: each a vector's offset at strength 1, in float32, at its layer."""
        matrix = torch.frombuffer(bytearray(directions), dtype=torch.float32).reshape(len(rows), -1)
        for row, layer, direction in zip(rows, layers, matrix, strict=True):
            self.steering_step.layer_of[row] = layer
            for held in self.steering_layers:
                held.directions[row].zero_() if held.layer != layer else held.directions[row].copy_(direction)

    def steering_take(self: Any, key: str) -> dict[str, bytes]:
        """The hidden states read under ``key``, in float32, by layer; of the layers that this worker holds."""
        found = self.steering_step.taken(key)
        return {str(layer): states.numpy().tobytes() for layer, states in found.items()}

    def steering_learn(self: Any, name: str, content: bytes, forgotten: list[str]) -> None:
        """Keep a table of vectors or probes, and forget others."""
        self.steering_step.states.learn(name, content, forgotten)

    def steering_reports(self: Any) -> dict[str, dict[str, Any]]:
        """By request, what was moved and read since the last call."""
        reports: dict[str, dict[str, Any]] = self.steering_step.states.taken()
        return reports

    def steering_facts(self: Any) -> dict[str, Any]:
        """What was hooked into, for messages and tests."""
        runner = self.model_runner
        return {
            "runner": f"{type(runner).__module__}.{type(runner).__name__}",
            "v2": bool(self.use_v2_model_runner),
            "compiled": self.vllm_config.compilation_config.mode.name,
            "layers": [steered.layer for steered in self.steering_layers],
        }


def _load(worker: Any, load_model: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    load_model(*args, **kwargs)
    config, runner = worker.vllm_config, worker.model_runner
    captured = config.compilation_config.max_cudagraph_capture_size or 0
    tokens = max(config.scheduler_config.max_num_batched_tokens, captured)
    rows, width = config.additional_config[KEY]["rows"], config.additional_config[KEY]["d_model"]
    step = worker.steering_step = Step(tokens, rows, runner.device)
    worker.steering_layers = [
        SteeredLayer(step, layer, block, torch.zeros(rows, width, device=runner.device))
        for layer, block in enumerate(decoder_blocks(runner.get_model()))
        if not isinstance(block, PPMissingLayer)
    ]
    if worker.use_v2_model_runner:
        runner.prepare_inputs = partial(_prepare_v2, step, runner.prepare_inputs)
    else:
        runner._prepare_inputs = partial(_prepare_v1, step, runner, runner._prepare_inputs)
        runner._determine_batch_execution_and_padding = partial(
            _without_graph_v1, step, runner._determine_batch_execution_and_padding
        )


def _execute(worker: Any, execute_model: Callable[..., Any], scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
    step, runner = worker.steering_step, worker.model_runner
    step.admit(scheduler_output)
    manager = runner.cudagraph_manager if step.has_readers and worker.use_v2_model_runner else None
    if manager is not None:
        manager.dispatch = partial(_without_graph_v2, manager.dispatch)
    try:
        return execute_model(scheduler_output, *args, **kwargs)
    finally:
        if manager is not None:
            del manager.dispatch
        step.states.finish()


def _prepare_v1(step: Step, runner: Any, prepare: Callable[..., Any], scheduler_output: Any, scheduled: Any) -> Any:
    batch = runner.input_batch
    step.fill(batch.req_ids, batch.num_computed_tokens_cpu[: batch.num_reqs], scheduled)
    return prepare(scheduler_output, scheduled)


def _prepare_v2(step: Step, prepare: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    batch = prepare(*args, **kwargs)
    step.fill(batch.req_ids, batch.num_computed_tokens_np, batch.num_scheduled_tokens)
    return batch


# A CUDA graph replays kernels and nothing else, so a step in which hidden states are read, or tokens are moved by
# theirs, runs without one.


def _without_graph_v1(step: Step, determine: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return determine(*args, **({**kwargs, "force_eager": True} if step.reads else kwargs))


def _without_graph_v2(dispatch: Callable[..., Any], num_reqs: int, num_tokens: int, *args: Any, **kwargs: Any) -> Any:
    found = dispatch(num_reqs, num_tokens, *args, **kwargs)
    return replace(found, cg_mode=CUDAGraphMode.NONE, num_tokens=num_tokens, num_reqs=num_reqs)
