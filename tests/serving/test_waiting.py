import subprocess
import sys

import pytest

from serving.waiting import SPINS, SYSTEM, spins


@pytest.mark.parametrize(("running", "expected"), [(1, SPINS), (2, 0), (7, 0)])
def test_threads_spin_only_where_nothing_else_runs(running, expected, tmp_path):
    (tmp_path / "stat").write_text(f"cpu  1 2 3 4\nprocs_running {running}\nprocs_blocked 9\n")
    assert spins(system=tmp_path / "stat") == expected
    assert spins(7, tmp_path / "stat") == (7 if expected else 0)


def test_threads_sleep_where_the_system_does_not_tell(tmp_path):
    assert spins(system=tmp_path / "stat") == 0
    (tmp_path / "stat").write_text("cpu  1 2 3 4\n")
    assert spins(system=tmp_path / "stat") == 0


@pytest.mark.skipif(not SYSTEM.is_file(), reason="only Linux tells how many threads run")
def test_a_process_that_computes_keeps_them_from_spinning():
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        busy.stdout.readline()
        assert spins() == 0
    finally:
        busy.kill()
        busy.communicate()


def test_the_environment_decides_and_torch_is_not_yet_imported():
    decide = "import pipelines.cli.command, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    for given, expected in ({"GOMP_SPINCOUNT": "77"}, "77 False"), ({}, None):
        said = subprocess.run([sys.executable, "-c", decide], env=given, capture_output=True, text=True, check=True)
        count, torch = said.stdout.split()
        assert torch == "False"
        assert count in ({"77"} if expected else {"0", str(SPINS)})
