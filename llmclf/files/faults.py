"""What is wrong with a file that should be there and whole: the one place that tells, for whoever reads a file.

A file can be absent, a folder, unreadable or empty; it can be the note that Git leaves in a file's place, the page that a server
sent instead, or a download that has not ended. Readers of each format would call all of these by other names.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]+:/")
_START = 1024  # bytes: what tells the kind of a file stands at its beginning
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
_POINTER = b"version https://git-lfs.github.com/spec/"
_POINTER_OF_ANNEX = re.compile(rb"^(?:\.\./)*(?:\.git)?/?annex/objects/")
_PAGE = re.compile(
    rb"^(?:\xef\xbb\xbf)?\s*<(?:!doctype html|html|head|body|\?xml[^>]*>\s*<(?:error|!doctype html|html))\b", re.I
)
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh91AY&SY": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
}


def address_fault(path: str | os.PathLike[str]) -> str | None:
    """Why what is written like an address is no path to write to, as the end of a sentence that begins with it; else None.

    As a path it would be that of a folder called ``s3:``.

    Examples
    --------
    >>> address_fault("s3://bucket/report.html"), address_fault("report.html")
    ('is an address, and this is kept on a disk of this machine; give a path', None)
    """
    if _ADDRESS.match(os.fspath(path)) is None:
        return None
    return "is an address, and this is kept on a disk of this machine; give a path"


def file_fault(path: str | os.PathLike[str], *, may_be_packed: bool = False) -> str | None:
    """What is wrong with a file, and the cure, as the end of a sentence that begins with its name; None if nothing shows.

    Only the file's beginning is read, and nothing of a file that would block (a pipe, a socket).

    Parameters
    ----------
    path : path
    may_be_packed : bool
        Whether the file's format is that of an archive, such as PyTorch's zip files.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> file_fault(folder)
    'is a folder, not a file; give the path of a file in it'
    >>> pointer = folder / "model.gguf"
    >>> _ = pointer.write_text("version https://git-lfs.github.com/spec/v1\\noid sha256:12ab\\nsize 98000000\\n")
    >>> print(file_fault(pointer))
    is a Git LFS pointer, a note that stands for 98.0 MB that were not downloaded; run "git lfs pull" in its folder, or ...
    """
    file = Path(path)
    try:
        status = file.stat()
        if stat.S_ISDIR(status.st_mode):
            return "is a folder, not a file; give the path of a file in it"
        if not stat.S_ISREG(status.st_mode):
            return "is not a regular file (a pipe, a socket or a device); give the path of a file"
        with file.open("rb") as stream:
            start = stream.read(_START)
    except FileNotFoundError:
        if file.is_symlink():
            return f"is a link to {os.readlink(file)!r}, which does not exist; download the file again"
        return "does not exist; check the path"
    except PermissionError:
        return "may not be read by this user; change the file's permissions, or run as its owner"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error}); check the path and the disk"
    return _fault_of_start(start, status.st_size, may_be_packed) or _unfinished(file)


def folder_fault(path: str | os.PathLike[str]) -> str | None:
    """What is wrong with a folder, and the cure, as `file_fault` says it of a file; None if nothing shows.

    Examples
    --------
    >>> folder_fault(os.devnull)
    'is a file, not a folder; give the folder that holds it'
    """
    folder = Path(path)
    try:
        if not stat.S_ISDIR(folder.stat().st_mode):
            return "is a file, not a folder; give the folder that holds it"
        os.listdir(folder)
        if not os.access(folder, os.X_OK):
            return "may not be entered by this user; change the folder's permissions, or run as its owner"
    except FileNotFoundError:
        return "does not exist; check the path"
    except PermissionError:
        return "may not be read by this user; change the folder's permissions, or run as its owner"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error}); check the path and the disk"
    return None


def _fault_of_start(start: bytes, size: int, may_be_packed: bool) -> str | None:
    if not start:
        return "is empty; download or write it again"
    if start.startswith(_POINTER):
        whole = re.search(rb"^size (\d+)$", start, re.M)
        what = f"{_readable(int(whole[1]))} that were" if whole else "a file that was"
        return (
            f'is a Git LFS pointer, a note that stands for {what} not downloaded; run "git lfs pull" in its folder, or '
            "download the file itself"
        )
    if _POINTER_OF_ANNEX.match(start):
        return (
            'is a git-annex pointer, a note that stands for a file that was not downloaded; run "git annex get" on it'
        )
    if _PAGE.match(start):
        return (
            "is a web page, such as a server sends in place of a file that it does not give (a login, an error); download the "
            "file itself"
        )
    if not start.strip(b"\0"):
        return "begins with zeros only, as a download does that has not ended; download it again"
    packing = next((name for magic, name in _PACKED.items() if start.startswith(magic)), None)
    if packing is not None and not may_be_packed:
        return f"is packed ({packing}); unpack it first"
    return None


def _unfinished(file: Path) -> str | None:
    """Whether the file, or one that a downloader keeps beside it, says that the download has not ended."""
    if file.suffix.lower() in _UNFINISHED:
        return "is a download that has not ended, by its name; let it end, or download the file again"
    try:
        is_under_way = file.with_name(f"{file.name}.aria2").exists()
    except OSError:  # the longer name is too long
        is_under_way = False
    if is_under_way:
        return f"is a download that has not ended ({file.name}.aria2 is still there); let it end, or download the file again"
    return None


def _readable(n_bytes: int) -> str:
    """A number of bytes with a unit, as downloads show it."""
    size = float(n_bytes)
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} bytes" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
