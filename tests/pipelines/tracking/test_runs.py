import pytest

from pipelines.tracking.runs import code_commit


@pytest.mark.parametrize(("carried", "commit"), [("c0ffee", "c0ffee"), ("", "unknown")])
def test_an_image_without_git_records_the_commit_it_carries(monkeypatch, carried, commit):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("TRUSTTRACE_COMMIT", carried)
    assert code_commit.__wrapped__() == commit
