"""The wheel: what is in it, what it asks for, and that it works where the repository is not."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this very repository."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check", "--no-deps", "--no-build-isolation"]
    made = subprocess.run([*command, "--wheel-dir", folder, ROOT], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    (path,) = folder.glob("llmclf-*.whl")
    return path


@pytest.fixture(scope="module")
def metadata(wheel) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def test_it_holds_the_package_and_nothing_else(wheel):
    """Modules, pages, the report's schema, the data sets' cards and the mark of a typed package."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    files = {path for path in (ROOT / "llmclf").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    cards = {f"llmclf/_cards/{path.name}" for path in (ROOT / "datasets").glob("*.toml")}
    assert names == {path.relative_to(ROOT).as_posix() for path in files} | cards
    assert {"llmclf/py.typed", "llmclf/report/report.schema.json", "llmclf/_cards/rotten_tomatoes.toml"} <= names


def test_what_it_asks_for_is_what_the_tests_ran_with(metadata):
    """Each dependency of the package and of its extras, the tests' own included, is here in a version that it allows."""
    for line in metadata.get_all("Requires-Dist"):
        requirement = Requirement(line)
        assert requirement.specifier, f"{line} allows any version"
        found = importlib.metadata.version(requirement.name)
        assert requirement.specifier.contains(found, prereleases=True), f"{line}: {found} is installed"


def test_this_python_is_declared(metadata):
    """The classifiers name the interpreters that the tests have run on, and this is one of them."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"Programming Language :: Python :: {version}" in metadata.get_all("Classifier")


@pytest.mark.model
def test_it_runs_the_demo_where_the_repository_is_not(wheel, tmp_path):
    """Installed from the wheel beside its dependencies, the program scores, calibrates, draws and reports."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = Path(subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout.strip())
    # The dependencies are those of the tests: gigabytes need not be installed again.
    here = [path for path in sys.path if re.search(r"(site|dist)-packages$", path)]
    (own / "dependencies.pth").write_text("\n".join(here), encoding="utf-8")
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--no-deps"]
    done = subprocess.run([*install, "--ignore-installed", wheel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ask = "import llmclf; print(llmclf.__file__)"
    found = subprocess.run([python, "-c", ask], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).is_relative_to(own)
    command = [home / "bin" / "llmclf", "demo", "--calibration-rows", "40", "--test-rows", "40"]
    ran = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "report.html").read_text(encoding="utf-8")
