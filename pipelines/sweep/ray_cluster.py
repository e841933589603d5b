"""A Ray cluster: joined or started, and how many actors it has room for."""

import logging
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from registry.errors import Mismatch, Unavailable
from serving.model.placement import Placement

ROOT = Path(__file__).parents[2]
PACKAGES = tuple(str(ROOT / name) for name in ("registry", "serving", "pipelines"))
"""Sent to the cluster by Ray, so that workers run this code."""
ANSWER_SECONDS = 5.0


@contextmanager
def connected(address: str, threads: int) -> Iterator[None]:
    """A connection to the cluster at ``address``, given up afterwards.

    ``local`` starts a cluster on this machine and ends it, ``auto`` joins the one that runs on it, ``host:port`` joins
    another. Workers compute with ``threads`` threads.
    Raises ``Unavailable`` where there is no cluster.
    """
    if address not in ("local", "auto"):
        _require_answer(address)
    on_sigterm = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address,
            **({"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address == "local" else {}),
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={
                "py_modules": list(PACKAGES),
                "excludes": ["**/__pycache__"],
                "env_vars": _environment(threads),
            },
        )
    except (ConnectionError, RuntimeError, ImportError, TimeoutError, RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unavailable(
            f"no Ray cluster could be joined at address={address} ({reason}); start one with `ray start --head`, with "
            "the RAY_AUTH_MODE and token that this process has, or give address=local"
        ) from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, on_sigterm)  # Ray took it, and a run that is ended has to say so in MLflow
    try:
        yield
    finally:
        ray.shutdown()


def _environment(threads: int) -> dict[str, str]:
    """What a worker must find set before it imports torch."""
    return {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}


def _require_answer(address: str) -> None:
    """Ray itself takes a minute to say that nobody answers."""
    host, _, port = address.rpartition(":")
    reason = "it is not of the form host:port"
    if address.startswith("ray://"):
        host, reason = "", "Ray's client is not supported, so run the command on a node of the cluster"
    if host in ("localhost", "127.0.0.1", "::1"):
        host = ray.util.get_node_ip_address()  # where Ray will look, and wait for minutes
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS).close()
            return
        except (OSError, OverflowError) as error:
            reason = str(error)
    raise Unavailable(f"no Ray cluster answers at address={address}: {reason}; give local, auto or host:port")


def gpus_and_room(placement: Placement, threads: int) -> tuple[int, int]:
    """GPUs of one actor that has a CPU for each of ``threads``, and how many such actors fit on the cluster.

    An actor has a GPU where the cluster has one and ``placement`` does not say otherwise; with ``device_map`` it has
    all those of a node. Raises ``Mismatch`` where no node has room for one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = int(max(node.get("GPU", 0) for node in nodes))
    needed = placement.device.startswith("cuda")
    if needed and not most:
        raise Mismatch(f"device is {placement.device} and the Ray cluster has no GPU; give device=auto or cpu")
    gpus = 0 if placement.device == "cpu" else most if placement.device_map else min(most, 1)
    room = sum(_fits(node, threads, gpus) for node in nodes)
    if not room:
        largest = int(max(node.get("CPU", 0) for node in nodes))
        raise Mismatch(
            f"a worker needs {threads} CPUs, as this process has so many threads, and {gpus} GPUs; the largest node "
            f"of the Ray cluster has {largest} CPUs: set OMP_NUM_THREADS={max(largest, 1)}"
        )
    return gpus, room


def cluster_placement(address: str, placement: Placement) -> Placement:
    """``placement`` with ``auto`` resolved by a worker of the cluster at ``address``."""
    threads = torch.get_num_threads()
    with connected(address, threads):
        gpus, _ = gpus_and_room(placement, threads)
        resolve = ray.remote(Placement.resolved).options(num_cpus=threads, num_gpus=gpus)
        try:
            resolved: Placement = ray.get(resolve.remote(placement))
        except RayTaskError as error:
            raise error.cause from None
    return resolved


def _fits(node: dict[str, float], cpus: int, gpus: int) -> int:
    by_cpu = int(node.get("CPU", 0) // cpus)
    return min(by_cpu, int(node.get("GPU", 0) // gpus)) if gpus else by_cpu
