"""What is wrong with a file: every way has its name and its cure."""

from __future__ import annotations

import gzip
import os
import re

import pytest

from llmclf.files.faults import file_fault, folder_fault

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:12ab\nsize 4200000000\n"

FAULTS = {
    "lfs": (POINTER, r"Git LFS pointer.* 4\.2 GB .*git lfs pull"),
    "lfs without a size": (POINTER[:60], "Git LFS pointer.*git lfs pull"),
    "annex": (
        b"../../.git/annex/objects/aa/bb/SHA256E-s12--ab.bin/SHA256E-s12--ab.bin",
        "git-annex pointer.*git annex get",
    ),
    "empty": (b"", "is empty"),
    "zeros": (bytes(5000), "begins with zeros only.*download it again"),
    "page": (b"\n<!DOCTYPE html>\n<html><head><title>Sign in</title>", "is a web page"),
    "page of a store": (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "is a web page"),
    "gzip": (gzip.compress(b"a,b\n1,2\n"), r"is packed \(gzip\); unpack it"),
    "zip": (b"PK\x03\x04rest", r"is packed \(zip\)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_file_is_named_with_its_cure(tmp_path, name):
    """Whatever its suffix: pointers, pages and halves are told by their first bytes."""
    content, expected = FAULTS[name]
    file = tmp_path / "data.csv"
    file.write_bytes(content)

    assert re.search(expected, str(file_fault(file)))


@pytest.mark.parametrize(
    "content", [b"a,b\n1,2\n", b'{"a": 1}', b"\x00\x01\x02", b"version 1\n", b"<b>bold</b>,x\n", b"\xef\xbb\xbfa,b\n"]
)
def test_a_whole_file_has_no_fault(tmp_path, content):
    """Text, JSON, numbers and a table whose first cell is markup."""
    file = tmp_path / "data"
    file.write_bytes(content)
    assert file_fault(file) is None


def test_an_archive_may_be_what_is_wanted(tmp_path):
    """PyTorch's own files are zip files."""
    file = tmp_path / "pytorch_model.bin"
    file.write_bytes(b"PK\x03\x04rest")
    assert file_fault(file, may_be_packed=True) is None


@pytest.mark.parametrize("suffix", [".incomplete", ".part", ".crdownload"])
def test_a_download_that_has_not_ended_is_known_by_its_name(tmp_path, suffix):
    """Downloaders give such files a suffix, or keep one beside them."""
    file = tmp_path / f"model.gguf{suffix}"
    file.write_bytes(b"GGUF")
    assert "has not ended" in str(file_fault(file))
    whole = tmp_path / "model.gguf"
    whole.write_bytes(b"GGUF")
    assert file_fault(whole) is None
    (tmp_path / "model.gguf.aria2").write_bytes(b"x")
    assert "has not ended" in str(file_fault(whole))


def test_what_is_no_file_is_named(tmp_path):
    """Nothing, a folder, a link that leads nowhere and a pipe, which is not waited for."""
    assert file_fault(tmp_path / "nope") == "does not exist; check the path"
    assert str(file_fault(tmp_path)).startswith("is a folder, not a file")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "gone")
    assert "is a link to" in str(file_fault(link))
    os.mkfifo(tmp_path / "pipe")
    assert "is not a regular file" in str(file_fault(tmp_path / "pipe"))
    assert "does not exist" in str(folder_fault(tmp_path / "nope"))
    assert folder_fault(tmp_path) is None
    assert "cannot be read" in str(file_fault("a\0b"))


def test_files_that_may_not_be_read_say_so(tmp_path, monkeypatch):
    """The error of the system becomes a sentence with a cure."""
    file = tmp_path / "secret"
    file.write_text("x")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(type(file), "open", refuse)
    assert str(file_fault(file)).startswith("may not be read by this user")
    monkeypatch.setattr(os, "listdir", refuse)
    assert str(folder_fault(tmp_path)).startswith("may not be read by this user")
