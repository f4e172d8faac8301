# Sourced by the other scripts: `need_venv FOLDER` makes a virtual environment if there is none.

need_venv() {
    if [ -x "$1/bin/python" ]; then
        return
    fi
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "making $1 with $("$candidate" --version)" >&2
            if ! "$candidate" -m venv "$1"; then
                rm -rf "$1"
                echo "this Python cannot make virtual environments;" \
                    "on Debian: apt-get install python3-venv" >&2
                exit 2
            fi
            return
        fi
    done
    echo "Python 3.11 or newer is needed; name one with PYTHON=/path/to/python" >&2
    exit 2
}
