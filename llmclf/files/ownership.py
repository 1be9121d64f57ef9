"""Whose a file is: answers are read only from files that nobody else could have written.

A cache or a journal decides labels without asking the model, so that one which another user of the machine has planted would
decide them as that user likes. Checksums do not help: who can write a file can write its checksums.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

VARIABLE = "LLMCLF_TRUST_SHARED_FILES"
"""The environment variable that says, with ``1``, that whoever may write caches and journals is trusted."""
SIDE_FILES = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database, and believes."""
_ROOT = 0


def foreign_fault(path: str | os.PathLike[str], *, side_files: tuple[str, ...] = SIDE_FILES) -> str | None:
    """Why the content of a file cannot be trusted, and the cure, to be said after the file's name; None where it can be.

    Looked at are the file, the link by which it is reached, the files beside it whose names begin alike, and the folder. They may
    belong to this user or to root. Nobody else may write them, but for the members of the user's own group (one that has the
    user's name, and no other members). In a folder in which everybody may write, only owners may remove files (the sticky bit, as
    in /tmp). On systems without users of this kind nothing is looked at.

    Parameters
    ----------
    path : path
        Need not exist.
    side_files : tuple of str
        What the names of files beside it end with.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> file = folder / "scores.sqlite"
    >>> file.touch(0o600)
    >>> foreign_fault(file)
    >>> file.chmod(0o666)
    >>> print(foreign_fault(file))
    may be written by every user of this machine, who could have planted answers in it; if nobody has, run: chmod go-w ...
    """
    if not hasattr(os, "geteuid") or os.environ.get(VARIABLE) == "1":
        return None
    file = Path(path)
    for one in (file, *(file.with_name(file.name + suffix) for suffix in side_files)):
        fault = _fault_of_file(one)
        if fault is not None:
            where = "" if one == file else f"has a file {one.name!r} beside it that "
            return f"{where}{fault}"
    # A link is followed, and what is beside the file that it leads to counts.
    for folder in {file.parent, Path(os.path.realpath(file)).parent}:
        fault = _fault_of_folder(folder)
        if fault is not None:
            return f"is in the folder {str(folder)!r}, {fault}"
    return None


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and those above it, where they are missing, so that their owner alone may write them, whatever the umask.

    Raises
    ------
    OSError
    """
    folder = Path(path)
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(mode=0o755, exist_ok=True)


def _fault_of_file(file: Path) -> str | None:
    try:
        itself, status = file.lstat(), file.stat()
    except OSError:
        # What is not there, or cannot be looked at, is not read either. A link to nothing decides where a file is made.
        try:
            itself = status = file.lstat()
        except OSError:
            return None
    if stat.S_ISLNK(itself.st_mode) and not _is_trusted(itself.st_uid):
        return f"is a link that belongs to {_user(itself.st_uid)}, who could have planted it; give the path of the file itself"
    if stat.S_ISLNK(status.st_mode):
        return None
    if not _is_trusted(status.st_uid):
        return (
            f"belongs to {_user(status.st_uid)}, who could have planted answers in it; if you trust it, make a copy of your own "
            f"(cp {shlex.quote(str(file))} NEW) and give that, or {_SHARED}"
        )
    writers = _writers(status)
    if writers is not None:
        return (
            f"may be written by {writers}, who could have planted answers in it; if nobody has, run: chmod go-w "
            f"{shlex.quote(str(file))}, or {_SHARED}"
        )
    return None


def _fault_of_folder(folder: Path) -> str | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        return (
            "where every user of this machine may replace files; give a path in a folder below it, which is made when missing, "
            f"or run: chmod +t {shlex.quote(str(folder))}, or {_SHARED}"
        )
    return None


_SHARED = f"set {VARIABLE}=1 if all who may write such files are trusted"


def _is_trusted(uid: int) -> bool:
    return uid in (os.geteuid(), _ROOT)


def _writers(status: os.stat_result) -> str | None:
    """Who else may write a file, in words; None where nobody may."""
    if status.st_mode & stat.S_IWOTH:
        return "every user of this machine"
    if status.st_mode & stat.S_IWGRP and not _is_own_group(status.st_uid, status.st_gid):
        return f"the group {_group(status.st_gid)}"
    return None


def _is_own_group(uid: int, gid: int) -> bool:
    """Whether a group is its user's alone, as systems have them that let a user's files be written by their group."""
    import grp
    import pwd

    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(uid)
    except KeyError:
        return uid == gid  # in a container that knows no names
    return group.gr_name == user.pw_name and user.pw_gid == gid and set(group.gr_mem) <= {user.pw_name}


def _user(uid: int) -> str:
    import pwd

    try:
        return f"the user {pwd.getpwuid(uid).pw_name!r}"
    except KeyError:
        return f"another user ({uid})"


def _group(gid: int) -> str:
    import grp

    try:
        return repr(grp.getgrgid(gid).gr_name)
    except KeyError:
        return str(gid)
