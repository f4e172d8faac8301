#!/bin/sh
# Does a model file answer the same on an x86 chip without VNNI as here? Such chips (Intel's
# before 2019, its small ones before 2023, AMD's before 2022) add the products of int8 weights in
# pairs, in 16 bits, and saturate where a file does not keep them from it.
#   sh scripts/old_x86.sh                                the shipped int8 files, 50 rendered fields
#   sh scripts/old_x86.sh --fields smears/ MODEL...      these files, 50 fields of a folder
#   CPU=Nehalem sh scripts/old_x86.sh ...                another processor (default Haswell, with AVX2)
# On Debian or a system derived from it, on x86-64. The installed Python runs under QEMU, which is
# fetched once and stays in build/qemu. It says nothing about speed: emulation takes a second a field,
# of a float32 file far longer.
set -eu
cd "$(dirname "$0")/.."
root=$PWD
cpu=${CPU:-Haswell}
if [ "$(uname -m)" != x86_64 ]; then
    echo "old_x86.sh: runs on x86-64 alone; sh scripts/arm64.sh asks an ARM64 processor" >&2
    exit 2
fi
. scripts/qemu.sh
[ $# -gt 0 ] || set -- allsub_edge/models/*int8*
fetch_qemu
absolute "$@"
work=$root/build/old_x86
mkdir -p "$work"
echo "answering here" >&2
record "$work/here.json" "$host_python"
echo "answering on an emulated $cpu" >&2
# QEMU names each feature of the processor that it leaves out, once a process.
record "$work/$cpu.json" "$qemu/usr/bin/qemu-x86_64-static" -cpu "$cpu" "$host_python" \
    2>"$work/$cpu.log" || { cat "$work/$cpu.log" >&2; exit 1; }
echo
echo "emulated $cpu:"
"$host_python" -m allsub_edge.benchmarks.answers compare "$work/here.json" "$work/$cpu.json"
