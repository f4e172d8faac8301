from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from allsub_edge.classes import NOT_A_MEDICAL_DEVICE
from allsub_edge.cli import main as module
from allsub_edge.cli.main import VERBS, main
from allsub_edge.cli.threads import MAX_THREADS
from allsub_edge.engines import base
from allsub_edge.errors import DataError, ModelFileError
from allsub_edge.version import __version__

ROOT = Path(__file__).parents[2]


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {verb} " in out for verb in VERBS)
    assert "allsub-edge infer field.png" in out
    assert NOT_A_MEDICAL_DEVICE in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"allsub-edge {__version__}\n"


def test_no_verb_shows_the_help_as_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    out, err = capsys.readouterr()
    assert (out, "verbs:" in err) == ("", True)


@pytest.mark.parametrize(
    ("verb", "hint"), [("infre", "infer"), ("xyzzy", "--help"), ("--wrong", "--help")]
)
def test_an_unknown_verb_is_one_line(
    verb: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb]) == 2
    err = capsys.readouterr().err
    assert len(err.splitlines()) == 1
    assert hint in err


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, "--help"]) == 0
    assert f"usage: allsub-edge {verb}" in capsys.readouterr().out


def verb_that(monkeypatch: pytest.MonkeyPatch, outcome: Any) -> None:
    def run(_: Any) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        assert isinstance(outcome, int)
        return outcome

    fake = SimpleNamespace(HELP="help", add_arguments=lambda _: None, run=run)
    monkeypatch.setattr(module, "_load_verb", lambda _: fake)


@pytest.mark.parametrize(
    ("outcome", "code", "told"),
    [
        (0, 0, ""),
        (1, 1, ""),
        (DataError("a", "folder: no\n images"), 2, "allsub-edge: error: folder: no images\n"),
        (ModelFileError("damaged", "x.onnx: damaged"), 2, "allsub-edge: error: x.onnx: damaged\n"),
        (
            PermissionError(13, "Permission denied", "out.csv"),
            2,
            "allsub-edge: error: out.csv: Permission denied\n",
        ),
        (KeyboardInterrupt(), 130, "allsub-edge: interrupted\n"),
    ],
)
def test_exit_codes(
    outcome: Any,
    code: int,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb_that(monkeypatch, outcome)
    assert main(["infer"]) == code
    assert capsys.readouterr().err == told


def test_a_missing_extra_gives_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verb_that(monkeypatch, ModuleNotFoundError("No module", name="tensorflow.keras"))
    assert main(["train"]) == 2
    assert "pip install 'allsub-edge[train]'" in capsys.readouterr().err


def test_a_bug_is_not_dressed_up_as_a_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    verb_that(monkeypatch, ModuleNotFoundError("No module", name="allsub_edge.nonsense"))
    with pytest.raises(ModuleNotFoundError):
        main(["infer"])
    verb_that(monkeypatch, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        main(["infer"])


def test_a_verb_that_is_not_installed_does_not_break_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(VERBS, "future", ("allsub_edge.cli.future_verb", "not yet"))
    assert main(["future"]) == 2
    assert "future" in capsys.readouterr().err
    assert main(["info", "--help"]) == 0


@pytest.mark.parametrize("verb", ["infer", "case", "watch", "camera", "check", "verify"])
def test_threads_have_a_limit(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert MAX_THREADS == base.MAX_THREADS
    for given in ("0", "257", "2.5"):
        assert main([verb, "x", "--threads", given]) == 2
        assert "must be a whole number from 1 to 256" in capsys.readouterr().err


def test_python_m_is_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "allsub_edge", "--version"],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert (done.returncode, done.stdout) == (0, f"allsub-edge {__version__}\n")


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads in /proc")
@pytest.mark.parametrize(("given", "threads"), [(None, 1), ("2", 2)])
def test_importing_numpy_for_the_device_starts_no_idle_threads(
    given: str | None, threads: int
) -> None:
    if threads > len(os.sched_getaffinity(0)):
        pytest.skip("numpy's BLAS starts no more threads than cores")
    code = (
        "import os, sys\n"
        "from allsub_edge.cli.main import entry\n"
        "sys.argv[1:] = ['check', '--help']\n"
        "def count():\n"
        "    import numpy\n"
        "    print('threads', len(os.listdir('/proc/self/task')))\n"
        "try:\n"
        "    entry()\n"
        "finally:\n"
        "    count()\n"
    )
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    if given:
        environment["OPENBLAS_NUM_THREADS"] = given
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.splitlines()[-1] == f"threads {threads}"
