from __future__ import annotations

import os
from pathlib import Path

import pytest

from allsub_edge.benchmarks import machine

PI = """\
processor\t: 0
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics cpuid asimddp
Hardware\t: BCM2712
"""


def board(root: Path) -> Path:
    """A folder that looks like a Raspberry Pi 5's /proc and /sys."""
    files = {
        "proc/cpuinfo": PI,
        "proc/meminfo": "MemTotal:        8245248 kB\n",
        "proc/loadavg": "0.25 0.1 0.1 1/200 900\n",
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
        "sys/class/thermal/thermal_zone0/temp": "51200\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_board_is_described_by_what_it_tells(tmp_path: Path) -> None:
    found = machine.describe(board(tmp_path))
    assert found["board"] == "Raspberry Pi 5 Model B Rev 1.0"
    assert found["cpu"] == "BCM2712"
    assert found["features"] == ["neon", "dotprod"]
    assert found["memory_mb"] == 8052
    assert found["versions"]["numpy"]
    words = machine.in_words(found | {"architecture": "aarch64", "cores": 4})
    assert words == "Raspberry Pi 5 Model B Rev 1.0, aarch64, 4 cores, neon, dotprod"


def test_health_reads_clock_governor_and_temperature(tmp_path: Path) -> None:
    found = machine.health(board(tmp_path))
    assert (found["governor"], found["clock_mhz"]) == ("ondemand", 2400)
    assert (found["temperature_c"], found["load"]) == (51.2, 0.25)


def test_what_is_not_told_is_null(tmp_path: Path) -> None:
    found = machine.health(tmp_path)
    assert set(found.values()) == {None}
    described = machine.describe(tmp_path)
    assert described["cpu"] is None
    words = machine.in_words(described | {"cores": 1})
    assert words.startswith("unknown processor, ")
    assert words.endswith(", 1 core, no int8 features known")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("throttled=0x0", []),
        ("throttled=0x50005", ["under-voltage", "throttled", "under-voltage has occurred",
                               "throttling has occurred"]),
        ("nonsense", None),
    ],
)  # fmt: skip
def test_throttling_is_read_bit_by_bit(
    word: str, expected: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "vcgencmd"
    tool.write_text(f"#!/bin/sh\necho '{word}'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert machine.throttled() == expected


def test_without_the_tool_nothing_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.throttled() is None
