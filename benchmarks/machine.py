"""What a number was measured on: processor, features, clock, temperature, throttling, versions.

Everything is read from ``/proc``, ``/sys`` and, on a Raspberry Pi, ``vcgencmd``. What a system does
not tell is absent or null, never guessed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

FEATURES: Final[dict[str, str]] = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx_vnni": "vnni (avx)",
    "avx512_vnni": "vnni (avx512)",
    "amx_int8": "amx int8",
    "asimd": "neon",
    "neon": "neon",
    "asimddp": "dotprod",
    "i8mm": "i8mm",
    "sve": "sve",
}
"""Flag in ``/proc/cpuinfo`` -> what it is called here: what int8 speed depends on."""

PACKAGES: Final[tuple[str, ...]] = (
    *("numpy", "opencv-python-headless", "onnxruntime", "ai-edge-litert", "tflite-runtime"),
    *("tensorflow-cpu", "tensorflow", "keras"),
)

THROTTLED: Final[dict[int, str]] = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}
"""Bits of ``vcgencmd get_throttled``, as the Raspberry Pi documentation lists them."""


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return None


def _cpuinfo(text: str) -> tuple[str | None, list[str]]:
    """Name of the processor and its features of interest, out of ``/proc/cpuinfo``."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip().lower(), value.strip())
    flags = set((fields.get("flags") or fields.get("features") or "").split())
    found = list(dict.fromkeys(name for flag, name in FEATURES.items() if flag in flags))
    return fields.get("model name") or fields.get("hardware"), found


def versions() -> dict[str, str]:
    """Installed versions of what takes part."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(root: Path = Path("/")) -> dict[str, Any]:
    """The machine, as far as it tells.

    Args:
        root: where ``proc`` and ``sys`` are; another folder in tests.
    """
    from allsub_edge.engines.base import usable_cores

    model, features = _cpuinfo(_read(root / "proc/cpuinfo") or "")
    memory = re.search(r"MemTotal:\s+(\d+) kB", _read(root / "proc/meminfo") or "")
    return {
        "board": _read(root / "proc/device-tree/model"),
        "cpu": model,
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "processors": os.cpu_count(),
        "features": features,
        "memory_mb": int(memory[1]) // 1024 if memory else None,
        "system": platform.platform(),
        "versions": versions(),
    }


def in_words(machine: Mapping[str, Any]) -> str:
    """What :func:`describe` found, as tables name it: processor, architecture, cores, features."""
    name = machine["board"] or machine["cpu"] or "unknown processor"
    cores = f"{machine['cores']} core{'s' * (machine['cores'] != 1)}"
    features = ", ".join(machine["features"]) or "no int8 features known"
    return f"{name}, {machine['architecture']}, {cores}, {features}"


def health(root: Path = Path("/")) -> dict[str, Any]:
    """Clock, temperature, throttling and load at this moment; taken before and after a run."""
    cpu = root / "sys/devices/system/cpu/cpu0/cpufreq"
    clock = _read(cpu / "scaling_cur_freq")
    warm = [_read(zone / "temp") for zone in sorted((root / "sys/class/thermal").glob("*zone*"))]
    degrees = [int(text) / 1000 for text in warm if text and text.lstrip("-").isdigit()]
    load = _read(root / "proc/loadavg")
    return {
        "governor": _read(cpu / "scaling_governor"),
        "clock_mhz": int(clock) // 1000 if clock and clock.isdigit() else None,
        "temperature_c": max(degrees) if degrees else None,
        "throttled": throttled(),
        "load": float(load.split()[0]) if load else None,
    }


def throttled(command: str = "vcgencmd") -> list[str] | None:
    """What a Raspberry Pi says about throttling since it started; None on anything else."""
    if shutil.which(command) is None:
        return None
    try:
        done = subprocess.run(
            [command, "get_throttled"], capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"0x([0-9a-fA-F]+)", done.stdout)
    if match is None:
        return None
    bits = int(match[1], 16)
    return [text for bit, text in THROTTLED.items() if bits >> bit & 1]
