import errno
import os
import signal
import sqlite3
import subprocess
import sys

import pytest

from pipelines.cli.command import keep_freed_memory, run_command
from registry.errors import InvalidInput, Unavailable


def raising(error):
    def command(_arguments):
        raise error

    return command


def test_exit_codes_tell_success_from_user_errors(capsys):
    assert run_command(lambda _: None) == 0
    assert run_command(raising(InvalidInput("the file is empty"))) == 2
    assert capsys.readouterr().err == "error: the file is empty\n"


def test_a_full_disk_says_that_nothing_finished_is_lost(capsys):
    assert run_command(raising(OSError(errno.ENOSPC, "No space left on device", "/data/x"))) == 2
    error = capsys.readouterr().err
    assert "/data/x" in error
    assert "finished units are kept" in error


def test_what_nobody_expected_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(raising(ZeroDivisionError()))
    with pytest.raises(PermissionError):
        run_command(raising(PermissionError(errno.EACCES, "denied")))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_130_and_says_how_to_resume(number, capsys):
    before = signal.getsignal(signal.SIGTERM)
    # A shell that starts the tests in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert run_command(lambda _: os.kill(os.getpid(), number)) == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "run the same command again" in capsys.readouterr().err


def safetensors_on_a_full_disk(_):
    from safetensors import SafetensorError

    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def tracking_store_on_a_full_disk(_):
    try:
        raise sqlite3.OperationalError("database or disk is full")
    except sqlite3.OperationalError as error:
        raise Unavailable("MLflow does not answer") from error


@pytest.mark.parametrize("command", [safetensors_on_a_full_disk, tracking_store_on_a_full_disk])
def test_a_full_disk_is_known_whoever_meets_it(command, capsys):
    assert run_command(command) == 2
    assert "error: the disk is full (while writing); free some space" in capsys.readouterr().err


FAULTS = """
import resource, sys
from pipelines.cli.command import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
bytearray(8 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    bytes(8 * 2**20 + 1).count(b"x")
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_freed_memory_is_used_again_without_a_page_fault():
    kept, given_back = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, check=True, text=True).stdout)
        for how in ("kept", "given back")
    )
    assert given_back > 20 * 100
    assert kept < given_back / 10


HEAPS = """
import ctypes, sys, threading
from pipelines.cli.command import keep_freed_memory
if sys.argv[1] == "shared":
    keep_freed_memory()
libc, together = ctypes.CDLL(None), threading.Barrier(8)
def allocate():
    together.wait()
    libc.malloc(4000)
    together.wait()
threads = [threading.Thread(target=allocate) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
libc.fdopen.restype = ctypes.c_void_p
libc.malloc_info(0, stream := ctypes.c_void_p(libc.fdopen(1, b"w")))
libc.fflush(stream)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="this C library has no mallopt")
def test_threads_share_few_heaps():
    shared, own = (
        subprocess.run([sys.executable, "-c", HEAPS, how], capture_output=True, check=True, text=True).stdout.count(
            "<heap nr="
        )
        for how in ("shared", "own")
    )
    assert own > 2 >= shared
