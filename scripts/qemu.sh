# Sourced by scripts that ask another processor, emulated by QEMU from Debian's packages. Nothing is
# installed on this system: all of it stays in build/. Needs $root, the project's folder, and takes
# --fields FOLDER off the arguments; MODEL... are left.
qemu=$root/build/qemu
host_python=${HOST_PYTHON:-.venv-dev/bin/python}
fields=""
if [ "${1:-}" = --fields ]; then
    [ -d "${2:-}" ] || { echo "${0##*/}: --fields needs a folder" >&2; exit 2; }
    fields=$(cd "$2" && pwd)
    shift 2
fi
if [ ! -x "$host_python" ]; then
    echo "${0##*/}: no $host_python: run sh scripts/test.sh once, or set HOST_PYTHON" >&2
    exit 2
fi

for tool in apt-get dpkg dpkg-deb; do
    command -v $tool >/dev/null || { echo "${0##*/}: needs $tool (Debian)" >&2; exit 2; }
done

# apt with a state of its own, so that the system's packages and lists stay as they are.
get() { # STATE ARCHITECTURE VERB [ARGUMENTS]
    apt-get -qq -o APT::Architecture="$2" -o APT::Architectures="$2" -o Dir::State="$1" \
        -o Dir::State::status="$1/status" -o Dir::Cache="$1/cache" \
        -o Debug::NoLocking=1 -o APT::Sandbox::User=root -o APT::Install-Recommends=0 "$3" $4
}

packages() { # ARCHITECTURE TARGET PACKAGE...: unpacked with all they need
    architecture=$1 target=$2 state=$2-apt
    shift 2
    rm -rf "$target" "$state"
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    : >"$state/status"
    get "$state" "$architecture" update ""
    get "$state" "$architecture" install "--download-only --yes $*"
    mkdir -p "$target"
    for package in "$state"/cache/archives/*.deb; do
        dpkg-deb -x "$package" "$target"
    done
    rm -rf "$state"
}

fetch_qemu() {
    [ ! -e "$qemu/ready" ] || return 0
    echo "fetching QEMU" >&2
    packages "$(dpkg --print-architecture)" "$qemu" qemu-user-static
    touch "$qemu/ready"
}

absolute() { # MODEL...: their paths, in $models
    models=""
    for model in "$@"; do
        [ -f "$model" ] || { echo "${0##*/}: no such file: $model" >&2; exit 2; }
        models="$models $(cd "$(dirname "$model")" && pwd)/$(basename "$model")"
    done
}

record() { # OUT COMMAND...: the same program on both sides; of $models, over $fields
    out=$1
    shift
    if [ -n "$fields" ]; then
        "$@" -m allsub_edge.benchmarks.answers record --out "$out" --fields "$fields" $models
    else
        "$@" -m allsub_edge.benchmarks.answers record --out "$out" $models
    fi
}
