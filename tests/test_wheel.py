"""A wheel built from the tree installs and runs outside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests import toy_model

ROOT = Path(__file__).parents[1]


def _pip(verb: str, *arguments: str) -> None:
    command = [sys.executable, "-m", "pip", verb, "--quiet", "--no-deps", *arguments]
    subprocess.run(command, check=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    # A copy, because setuptools leaves its build folder beside the sources.
    source = folder / "source"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.decode().split("\0"):
        if name and name.split("/")[0] not in ("tests", "examples", "docs"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    _pip("wheel", "--no-build-isolation", "--wheel-dir", str(folder), str(source))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_all_rooms_and_no_test(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in (
        "allsub_edge/py.typed",
        "allsub_edge/export/pipeline.py",
        "allsub_edge/benchmarks/__init__.py",
        "allsub_edge/cli/main.py",
    ):
        assert wanted in names
    assert not [n for n in names if n.startswith(("tests/", "export/", "benchmarks/"))]


def test_the_wheel_runs_outside_the_tree(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    _pip("install", "--no-index", "--target", str(site), str(wheel))
    model = tmp_path / "toy.onnx"
    model.write_bytes(toy_model.sealed())
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-m", "allsub_edge", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )

    code = "import allsub_edge.cli.main as m; print(m.__file__)"
    where = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
    assert run("--version").returncode == 0
    assert run("render", "field.png").returncode == 0
    answer = run("infer", "field.png", "--model", str(model), "--format", "ndjson")
    assert answer.returncode == 0, answer.stderr
    assert '"source": "field.png"' in answer.stdout
