"""Imports point one way; what a device runs never reaches for the training side."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Each room may import itself and the rooms before it. `quality` and `prediction` stand before
# `classifier`, which builds predictions from qualities.
ORDER = [
    {"errors", "classes", "atomic", "helper", "statistics", "version"},
    {"imaging"},
    {"model_file"},
    {"engines", "models"},
    {"quality"},
    {"prediction"},
    {"classifier"},
    {"camera_profile", "case", "sources", "records", "report"},
    {"cli"},
]
WORKSTATION = {"training", "audit", "evaluation", "export", "benchmarks"}
HEAVY = {"tensorflow", "keras", "onnx", "tf2onnx", "sklearn", "matplotlib", "h5py", "rich"}
# The verbs of the workstation call the training side, inside their functions.
WORKSTATION_VERBS = {
    "audit",
    "bench",
    "compare",
    "compare_recipes",
    "crossfit",
    "evaluate",
    "evaluate_segmentation",
    "export",
    "search",
    "split",
    "train",
    "training",
}


def modules() -> Iterator[tuple[str, Path]]:
    """(dotted name below the package, path) of every module."""
    for folder, prefix in (
        ("allsub_edge", ""),
        ("export", "export."),
        ("benchmarks", "benchmarks."),
    ):
        base = ROOT / folder
        for path in sorted(base.rglob("*.py")):
            dotted = ".".join(path.relative_to(base).with_suffix("").parts)
            yield (prefix + dotted).removesuffix(".__init__").removesuffix("__init__"), path


def imported(path: Path, *, top_only: bool = False) -> set[str]:
    """Dotted names a module imports, leaving out blocks under TYPE_CHECKING."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            for child in node.orelse:
                visit(child)
            return
        if top_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(path.read_text(encoding="utf-8")))
    return found


def rooms(names: set[str]) -> set[str]:
    """Rooms of this package among imported names."""
    return {name.split(".")[1] for name in names if name.startswith("allsub_edge.")}


def packages(names: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in names}


MODULES = dict(modules())
DEVICE = {
    name: path
    for name, path in MODULES.items()
    if name.partition(".")[0] not in WORKSTATION
    and name.removeprefix("cli.") not in WORKSTATION_VERBS
}


def test_the_walk_sees_the_package() -> None:
    assert {"classifier", "cli.main", "engines.onnx_runtime", "model_file", ""} <= set(DEVICE)
    known = set().union(*ORDER) | WORKSTATION | {"", "__main__"}
    assert {name.partition(".")[0] for name in MODULES} <= known, "a new room needs its place"


@pytest.mark.parametrize("name", sorted(DEVICE))
def test_device_modules_never_import_the_workstation_side(name: str) -> None:
    names = imported(DEVICE[name])
    assert not rooms(names) & WORKSTATION
    assert not packages(names) & HEAVY


@pytest.mark.parametrize("name", sorted(name for name in DEVICE if name not in ("", "__main__")))
def test_device_rooms_import_only_what_stands_before_them(name: str) -> None:
    room = name.partition(".")[0]
    position = next(i for i, group in enumerate(ORDER) if room in group)
    allowed = {room}.union(*ORDER[: position + 1])
    used = rooms(imported(DEVICE[name]))
    known = set().union(*ORDER)
    assert used & known <= allowed


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("training")))
def test_training_does_not_know_its_users(name: str) -> None:
    assert not rooms(imported(MODULES[name])) & {
        *("audit", "evaluation", "export"),
        *("benchmarks", "cli", "classifier"),
    }


# export.__main__ is an entry point: it is the command line under another name.
@pytest.mark.parametrize(
    "name", sorted(n for n in MODULES if n.startswith("export") and not n.endswith("__main__"))
)
def test_export_does_not_know_its_users(name: str) -> None:
    assert not rooms(imported(MODULES[name])) & {"evaluation", "benchmarks", "cli"}


@pytest.mark.parametrize("name", sorted(n for n in MODULES if n.startswith("evaluation")))
def test_evaluation_does_not_know_its_users(name: str) -> None:
    assert not rooms(imported(MODULES[name])) & {"audit", "benchmarks", "cli"}


@pytest.mark.parametrize("verb", sorted(WORKSTATION_VERBS))
def test_workstation_verbs_import_nothing_heavy_at_the_top(verb: str) -> None:
    names = imported(ROOT / "allsub_edge" / "cli" / f"{verb}.py", top_only=True)
    assert not packages(names) & (HEAVY | {"cv2", "onnxruntime", "numpy"})
    assert not rooms(names) & WORKSTATION


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["infer", "--help"],
        ["check", "--help"],
        ["info", "--help"],
        ["import"],
    ],
)
def test_help_and_version_import_nothing_heavy(arguments: list[str]) -> None:
    start = (
        "import allsub_edge"
        if arguments == ["import"]
        else f"from allsub_edge.cli.main import main; assert main({arguments!r}) == 0"
    )
    code = (
        f"import sys; {start}; "
        "bad = {'cv2', 'onnxruntime', 'numpy', 'tensorflow', 'onnx'} & set(sys.modules); "
        "assert not bad, bad"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
