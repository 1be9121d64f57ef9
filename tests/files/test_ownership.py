"""Caches and journals that another user of the machine could have written are not read."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from llmclf.backends import FakeBackend, RowScores
from llmclf.errors import StoreError
from llmclf.files.ownership import VARIABLE, foreign_fault, make_folder
from llmclf.jobs import label_table
from llmclf.scoring.score_cache import ScoreCache

OTHER = 12345
needs_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give a file to another user"
)
needs_users = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no users of this kind")
pytestmark = needs_users


def cache(path: Path) -> None:
    ScoreCache(path).put([("key", RowScores(((-1.0,),)))])


def job(path: Path) -> None:
    label_table(
        pd.DataFrame({"text": ["a", "b"]}),
        path.with_name("out.csv"),
        text_column="text",
        labels=["good", "bad"],
        model=FakeBackend(),
        journal=path,
        resume=True,
    )


@pytest.fixture(params=[cache, job])
def use(request):
    """A function that makes or uses the file of a path."""
    return request.param


@needs_root
def test_a_file_of_another_user_is_refused(use, tmp_path):
    """By name, with its owner and what can be done; nothing of it is read, and a copy of one's own is taken."""
    path = tmp_path / "store"
    use(path)
    os.chown(path, OTHER, OTHER)
    with pytest.raises(StoreError, match=rf"store' belongs to another user \({OTHER}\).*cp .*{VARIABLE}=1.*give"):
        use(path)
    copy = tmp_path / "copy"
    subprocess.run(["cp", path, copy], check=True)
    use(copy)


def test_a_file_that_all_may_write_is_refused_until_that_is_mended(use, tmp_path):
    """The command that mends it is named, and then it is used."""
    path = tmp_path / "store"
    use(path)
    path.chmod(0o606)
    with pytest.raises(StoreError, match=f"may be written by every user of this machine.*run: chmod go-w {path}, or"):
        use(path)
    subprocess.run(["chmod", "go-w", path], check=True)
    use(path)


@needs_root
def test_a_group_may_write_only_if_it_is_the_users_own(use, tmp_path):
    """A umask of 002 gives files to the group of the user's name, which has nobody else in it; another group is refused."""
    path = tmp_path / "store"
    use(path)
    path.chmod(0o660)
    use(path)
    os.chown(path, -1, OTHER)
    with pytest.raises(StoreError, match=f"may be written by the group {OTHER}"):
        use(path)


@needs_root
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_planted_file_beside_it_is_refused(use, tmp_path, suffix):
    """What SQLite would replay into the file has to have the same owner."""
    path = tmp_path / "store"
    use(path)
    side = tmp_path / f"store{suffix}"
    side.touch(0o644)
    os.chown(side, OTHER, OTHER)
    with pytest.raises(StoreError, match=f"has a file 'store{suffix}' beside it that belongs to another user"):
        use(path)


@needs_root
def test_a_planted_link_is_refused_and_nothing_is_made(use, tmp_path):
    """A link of another user in a folder for all, to a file or to nothing; one's own link is followed."""
    tmp_path.chmod(0o1777)
    aim, link = tmp_path / "mine" / "aim", tmp_path / "link"
    aim.parent.mkdir()
    link.symlink_to(aim)
    os.chown(link, OTHER, OTHER, follow_symlinks=False)
    with pytest.raises(StoreError, match="is a link that belongs to another user"):
        use(link)
    assert not aim.exists()
    os.chown(link, 0, 0, follow_symlinks=False)
    use(link)
    assert aim.stat().st_size > 0


@pytest.mark.parametrize("mode", [0o777, 0o2777])
def test_a_folder_in_which_all_may_replace_files_is_refused(use, tmp_path, mode):
    """Before anything is made there; a folder below it is made and serves, and so does the sticky bit."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(StoreError, match=r"shared', where every user of this machine may replace files.*chmod \+t"):
        use(folder / "store")
    assert list(folder.iterdir()) == []
    before = os.umask(0)
    try:
        use(folder / "mine" / "below" / "store")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "mine" / "below").stat().st_mode) & 0o777 == 0o755
    folder.chmod(0o1777)
    use(folder / "store")


@needs_root
def test_a_caller_who_trusts_all_writers_says_so(use, tmp_path, monkeypatch):
    """The variable allows files of other owners, such as those of a mounted disk that knows no users."""
    path = tmp_path / "store"
    use(path)
    os.chown(path, OTHER, OTHER)
    path.chmod(0o666)
    for value in ("", "0", "yes"):
        monkeypatch.setenv(VARIABLE, value)
        with pytest.raises(StoreError, match="belongs to another user"):
            use(path)
    monkeypatch.setenv(VARIABLE, "1")
    use(path)


@needs_root
def test_a_user_trusts_root_and_nobody_else():
    """Root could do anything anyway: a cache that an image brings along is read by whoever runs in it."""
    with tempfile.TemporaryDirectory() as name:  # not below the folders of other tests, which root alone may enter
        folder = Path(name)
        folder.chmod(0o755)
        ours, theirs = folder / "roots", folder / "others"
        for file in (ours, theirs):
            file.touch(0o644)
        os.chown(theirs, OTHER + 1, 0)
        code = (
            f"import os, pwd, grp; from llmclf.files.ownership import foreign_fault; os.setgid({OTHER}); os.setuid({OTHER})\n"
            f"print(foreign_fault({str(ours)!r})); print(foreign_fault({str(theirs)!r}))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "None"
    assert second.startswith(f"belongs to another user ({OTHER + 1})")


def test_what_is_not_there_has_no_fault(tmp_path):
    """A file that will be made, and a folder that will be."""
    assert foreign_fault(tmp_path / "new" / "file") is None
    make_folder(tmp_path / "new" / "folder")
    make_folder(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir()
