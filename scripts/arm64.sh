#!/bin/sh
# Does a model file answer the same on ARM64 as here? Asked without a board, in one command:
#   sh scripts/arm64.sh                                 the shipped models, 50 rendered fields
#   sh scripts/arm64.sh --fields smears/ MODEL...       these files, 50 fields of a folder
#   CPU=cortex-a72 sh scripts/arm64.sh ...              another processor (default cortex-a76)
# On Debian or a system derived from it. An ARM64 Python from Debian's packages and the ARM64 wheels
# pinned in constraints.txt run under QEMU; all of it stays in build/arm64 (0.5 GB), nothing is
# installed on this system. Needs Debian's and Python's package indexes once; later runs need none.
# It shows whether answers are the same. It says nothing about speed: emulation takes seconds a field.
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
. scripts/rooms.sh
root=$PWD
work=$root/build/arm64
cpu=${CPU:-cortex-a76}
. scripts/qemu.sh
[ $# -gt 0 ] || set -- allsub_edge/models/*.onnx
fetch_qemu
if [ ! -e "$work/ready" ]; then
    rm -rf "$work"
    mkdir -p "$work"
    echo "fetching an ARM64 Python" >&2
    packages arm64 "$work/system" python3 libstdc++6
    python=$(basename "$(find "$work/system/usr/bin" -name 'python3.?*' | grep -v config | head -n 1)")
    echo "fetching the ARM64 wheels for $python" >&2
    "$host_python" -m pip install --quiet --disable-pip-version-check --target "$work/site" \
        --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 \
        --implementation cp --python-version "${python#python}" --only-binary=:all: \
        -c constraints.txt numpy opencv-python-headless onnxruntime ai-edge-litert
    ln -sf "$python" "$work/system/usr/bin/python-arm64"
    touch "$work/ready"
fi

# onnxruntime reads what the processor can do from here, and does not start without it.
mkdir -p "$work/system/proc"
case $cpu in
cortex-a76) part=0xd0b ;;
cortex-a72) part=0xd08 ;;
*) part=0xd0b ;;
esac
dotprod=" asimddp"
[ "$cpu" != cortex-a72 ] || dotprod=""
printf 'processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop%s\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x4\nCPU part\t: %s\nCPU revision\t: 1\n' \
    "$dotprod" $part >"$work/system/proc/cpuinfo"
[ "$cpu" != cortex-a72 ] || sed -i 's/ atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop/ cpuid/' \
    "$work/system/proc/cpuinfo"

absolute "$@"
echo "answering here" >&2
record "$work/here.json" "$host_python"
echo "answering on an emulated $cpu" >&2
lay_out "$work/package"
record "$work/$cpu.json" env PYTHONPATH="$work/site:$work/package" PYTHONSAFEPATH=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    "$qemu/usr/bin/qemu-aarch64-static" -cpu "$cpu" -L "$work/system" \
    "$work/system/usr/bin/python-arm64"
echo
echo "emulated $cpu:"
"$host_python" -m allsub_edge.benchmarks.answers compare "$work/here.json" "$work/$cpu.json"
