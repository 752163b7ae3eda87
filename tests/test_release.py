"""Contents of a release: one version, a wheel of three packages, and a source distribution."""

import email
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

import ztrace

ROOT = Path(__file__).parents[1]
PACKAGES = {
    "ztrace": ROOT / "ztrace",
    "ztrace_collector": ROOT / "collector/ztrace_collector",
    "ztrace_viewer": ROOT / "viewer/ztrace_viewer",
}


def build_wheel(root: Path, folder: Path) -> dict[str, bytes]:
    """Build a wheel and return the content of its files by name."""
    (path,) = WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return the files of a wheel that is built from this folder."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder into which a source distribution is unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    (path,) = SdistBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder / f"ztrace-{ztrace.__version__}"


def test_the_version_stands_in_one_place(wheel: dict[str, bytes]) -> None:
    """The metadata of a wheel have the version of the agent's module, and `pyproject.toml` has none."""
    metadata = email.message_from_bytes(wheel[f"ztrace-{ztrace.__version__}.dist-info/METADATA"])
    assert metadata["Version"] == ztrace.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert ("version" in project, project["dynamic"]) == (False, ["version"])


def test_a_wheel_has_every_file_of_the_three_packages_and_nothing_else(wheel: dict[str, bytes]) -> None:
    """A wheel adds three packages with `py.typed`, the hook of `ztrace-run`, its metadata and the licence."""
    files = {
        f"{package}/{path.relative_to(folder).as_posix()}": path.read_bytes()
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(files)
    files["ztrace_run.pth"] = files.pop("ztrace/running/ztrace_run.pth")
    info = f"ztrace-{ztrace.__version__}.dist-info"
    assert {name: content for name, content in wheel.items() if not name.startswith(f"{info}/")} == files
    assert {name for name in wheel if name.startswith(f"{info}/")} == {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    }


def test_a_wheel_of_the_source_distribution_is_the_same(
    wheel: dict[str, bytes], unpacked: Path, tmp_path: Path
) -> None:
    """A wheel built from the unpacked source distribution equals the wheel built from this folder."""
    assert build_wheel(unpacked, tmp_path) == wheel


def test_the_source_distribution_can_be_tested(unpacked: Path) -> None:
    """A source distribution has the tests, the documentation and their configuration only."""
    names = {path.name for path in unpacked.iterdir()}
    assert names == {
        ".ci",
        ".gitignore",
        ".pre-commit-config.yaml",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "SECURITY.md",
        "collector",
        "docs",
        "mkdocs.yml",
        "pyproject.toml",
        "tests",
        "viewer",
        "ztrace",
    }
    suffixes = {path.suffix for path in unpacked.rglob("*") if path.is_file()}
    assert not suffixes & {".pyc", ".db", ".log", ".egg-info"}
    for folder in ("docs", "tests"):
        assert {path.relative_to(unpacked).as_posix() for path in (unpacked / folder).rglob("*.*")} == {
            path.relative_to(ROOT).as_posix()
            for path in (ROOT / folder).rglob("*.*")
            if "__pycache__" not in path.parts and path.suffix != ".pyc"
        }
