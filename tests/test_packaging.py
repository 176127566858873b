"""What is built from the tree is what is in the tree: wheel and sdist, with and without the two links."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import edgeq
from tests.patience import STUCK_S

ROOT = Path(__file__).resolve().parent.parent
PARTS = {"edgeq": "edgeq", "formats": "edgeq/formats", "converters": "edgeq/converters"}
SHIPPED = "edgeq/packs/shipped"
LINKS = ("edgeq/formats", "edgeq/converters")
AIMS = ("formats", "converters")  # what they lead to


def tracked() -> list[str]:
    """The repository's files, or those of an unpacked sdist."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        )
        return [name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()]
    files = (path for path in ROOT.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return [path.relative_to(ROOT).as_posix() for path in files]


def in_wheel(name: str) -> str | None:
    """Where a file of the tree belongs in the wheel; None for what stays outside."""
    part, _, rest = name.partition("/")
    if part not in PARTS or not rest or name in LINKS or name.endswith(".md"):
        return None
    return f"{PARTS[part]}/{rest}"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tracked files, with the links, so that building leaves nothing in the tree."""
    copy = tmp_path_factory.mktemp("tree")
    for name in tracked():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, copy / name, follow_symlinks=False)
    return copy


def build(tree: Path, kind: str, out: Path, packs: str = "none") -> Path:
    """What `python -m build --KIND` makes, with packs of these tiers in an sdist."""
    command = [sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "-C", f"packs={packs}"]
    command += ["--outdir", str(out), str(tree)]
    env = {**os.environ, "PYTHONWARNINGS": "default"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=STUCK_S)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = out.iterdir()
    return file


def files_of(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def test_every_package_is_listed() -> None:
    """Each directory with Python files is a package of the build: a new one is added to pyproject.toml."""
    import tomllib

    listed = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"][
        "packages"
    ]
    places = (in_wheel(name) for name in tracked() if name.endswith(".py"))
    found = {place.rsplit("/", 1)[0].replace("/", ".") for place in places if place}
    assert found == set(listed)


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_the_wheel_is_the_tree(tree: Path, tmp_path: Path, links: bool) -> None:
    source = tmp_path / "source"
    shutil.copytree(tree, source, symlinks=True)
    for name in LINKS:
        assert (source / name).is_symlink()
        if not links:
            (source / name).unlink()
    wheel = build(source, "wheel", tmp_path / "out")
    wanted = {place for place in map(in_wheel, tracked()) if place}
    assert files_of(wheel) == wanted
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith(".dist-info/METADATA"))).decode()
    assert "License-Expression: Apache-2.0" in metadata
    assert any(name.endswith("licenses/NOTICE") for name in names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def unpacked(sdist: Path, out: Path) -> Path:
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
        archive.extractall(out, filter="data")
    (source,) = out.iterdir()
    return source


def test_the_sdist_builds_the_same_wheel(tree: Path, tmp_path: Path) -> None:
    source = unpacked(build(tree, "sdist", tmp_path / "sdist"), tmp_path / "unpacked")
    assert (source / "tests" / "conftest.py").is_file() and (source / "CHANGELOG.md").is_file()
    wheel = build(source, "wheel", tmp_path / "wheel")
    assert files_of(wheel) == {place for place in map(in_wheel, tracked()) if place}


RUN = """
import json, sys
import edgeq
from edgeq.cli import run_command
code = run_command(["run", sys.argv[1], "-p", "Once upon", "-n", "4", "--temp", "0", "--quiet"])
print(json.dumps([code, edgeq.__file__, sorted({"numba", "llvmlite"} & set(sys.modules))]))
"""


@pytest.mark.slow
def test_an_installed_wheel_runs_without_a_compiler(
    tree: Path, tmp_path: Path, demo_checkpoint: Path
) -> None:
    """An sdist brings packs, hands them on to wheel and sdist without compiling again, and who installs the
    wheel starts a model without numba or llvmlite and keeps nothing. They stay in the checkout, for its own
    wheel and the next build.
    """
    from edgeq.converters import convert
    from edgeq.simd.host import host_isa
    from edgeq.simd.target import Target

    target = Target.of(host_isa().name)
    if not target.isa_row.machine:
        pytest.skip("wheels have no packs for GENERIC")
    checkout = tmp_path / "checkout"
    shutil.copytree(tree, checkout, symlinks=True)
    source = unpacked(build(checkout, "sdist", tmp_path / "sdist", target.isa), tmp_path / "unpacked")
    (pack,) = (source / SHIPPED).iterdir()
    (kept,) = (checkout / SHIPPED).iterdir()
    written = kept.stat().st_mtime_ns
    build(checkout, "sdist", tmp_path / "sdist1", target.isa)
    assert kept.read_bytes() == pack.read_bytes() and kept.stat().st_mtime_ns == written
    own = build(checkout, "wheel", tmp_path / "wheel0")
    assert f"{SHIPPED}/{target.name}.pack" in files_of(own)
    again = unpacked(build(source, "sdist", tmp_path / "sdist2", "all"), tmp_path / "unpacked2")
    assert (again / SHIPPED / pack.name).read_bytes() == pack.read_bytes()
    wheel = build(source, "wheel", tmp_path / "wheel")
    assert f"{SHIPPED}/{target.name}.pack" in files_of(wheel)

    installed = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(installed)
    story = tmp_path / "story.edgeq"
    convert(demo_checkpoint, story, scheme="q8")
    cache = tmp_path / "cache"
    env = {**os.environ, "PYTHONPATH": str(installed), "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN, str(story)],
        capture_output=True,
        text=True,
        env={name: value for name, value in env.items() if not name.startswith("EDGEQ_")},
        cwd=tmp_path,
        timeout=STUCK_S,
    )
    assert done.returncode == 0, done.stderr
    code, where, compilers = json.loads(done.stdout.splitlines()[-1])
    assert (code, compilers) == (0, []) and Path(where).is_relative_to(installed)
    assert not cache.exists()


EDITABLE = (
    "import sys; sys.path.insert(0, 'tools'); import backend; print(backend.build_editable(sys.argv[1]))"
)
FOUND = """
import importlib.metadata, importlib.util, json
import edgeq
found = importlib.metadata.distribution("edgeq")
parts = [importlib.util.find_spec(f"edgeq.{name}").origin for name in ("formats", "converters")]
print(json.dumps([edgeq.__file__, parts, found.version, sorted(e.name for e in found.entry_points)]))
"""


@pytest.mark.parametrize("links", [True, False], ids=["with links", "without links"])
def test_an_editable_install_works_beside_the_checkout(tree: Path, tmp_path: Path, links: bool) -> None:
    """A program that stands beside a clone named edgeq imports the package, not the clone's folder. Where the
    clone has no links setuptools' finder is installed: there a program must stand elsewhere.
    """
    clone, out, own = tmp_path / "edgeq", tmp_path / "out", tmp_path / "venv"
    shutil.copytree(tree, clone, symlinks=True)
    if not links:
        for name in LINKS:
            (clone / name).unlink()
    out.mkdir()
    wheel = out / printed([sys.executable, "-c", EDITABLE, str(out)], clone)
    venv.create(own, with_pip=False)
    scheme = {"base": str(own), "platbase": str(own)}
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(sysconfig.get_path("purelib", "venv", scheme))
    python = Path(sysconfig.get_path("scripts", "venv", scheme)) / Path(sys.executable).name
    where, parts, version, commands = json.loads(
        printed([str(python), "-c", FOUND], tmp_path if links else out)
    )
    assert Path(where) == clone / "edgeq" / "__init__.py"
    assert [Path(part).parent for part in parts] == [clone / name for name in (LINKS if links else AIMS)]
    assert (version, commands) == (edgeq.__version__, ["edgeq"])


def printed(command: list[str], folder: Path) -> str:
    """The last line that a command prints in the folder, found by no variable of Python's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=env, timeout=STUCK_S)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]
