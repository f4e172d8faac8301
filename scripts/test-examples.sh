#!/bin/sh
# Installs and tests the examples, each as its README says, from the files of this checkout alone:
#   sh scripts/test-examples.sh                     python, node, browser, beam
#   sh scripts/test-examples.sh node browser        only these
#   sh scripts/test-examples.sh --get-chromium      first tries `apt-get install chromium`
# What cannot run here (no Node, no Chromium) is skipped and said in the last lines. The exit code
# is 0 when nothing failed. Needs the package indexes of Python and npm.
set -eu
cd "$(dirname "$0")/.."
. scripts/venv.sh
root=$PWD
limit=900 # seconds for one example, installation included

find_chromium() {
    for candidate in "${CHROMIUM:-}" /usr/bin/chromium /usr/bin/chromium-browser \
        /usr/bin/google-chrome; do
        if [ -n "$candidate" ] && [ -x "$candidate" ]; then
            echo "$candidate"
            return
        fi
    done
}

node_is_here() {
    command -v npm >/dev/null 2>&1 && node -e '
        const [major, minor] = process.versions.node.split(".").map(Number);
        process.exit(major > 20 || (major === 20 && minor >= 19) ? 0 : 1)' 2>/dev/null
}

# The programs in an environment of their own, on every vector, against what the package answers.
test_python() {
    venv=examples/python/.venv
    need_venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
        -r examples/python/requirements.txt
    for program in onnx:*int8*.onnx litert:*.tflite; do
        model=$(find allsub_edge/models -name "${program#*:}" | sort | tail -n 1)
        if [ -z "$model" ]; then
            echo "no ${program#*:} is shipped: infer_${program%%:*}.py waits for one"
            continue
        fi
        digest=$(sha256sum "$model" | cut -d ' ' -f 1)
        expected=$(grep -l "$digest" tests/vectors/expected-*.json || true)
        if [ -z "$expected" ] && [ -x .venv-dev/bin/allsub-edge ]; then
            # No vectors are shipped for this file: the package itself says what it answers.
            expected=$venv/expected.ndjson
            .venv-dev/bin/allsub-edge infer tests/vectors/fields/*.png --model "$model" \
                --format ndjson --quiet >"$expected"
        fi
        if [ -z "$expected" ]; then
            echo "no vectors are shipped for $model: run sh scripts/test.sh once, then again"
            continue
        fi
        "$venv/bin/python" "examples/python/infer_${program%%:*}.py" "$model" \
            tests/vectors/fields/*.png >"$venv/records.ndjson"
        "$venv/bin/python" examples/compare.py "$expected" "$venv/records.ndjson"
    done
}

test_node() {
    cd examples/node
    npm ci --no-audit --no-fund
    npm test
}

test_browser() {
    cd examples/browser
    npm ci --no-audit --no-fund
    if [ -n "$(find_chromium)" ]; then
        npm test
    else
        npm run build
        npm run test:unit
    fi
}

test_beam() {
    sh examples/beam/run.sh test
}

case ${1:-} in
--one)
    "test_$2"
    exit
    ;;
--get-chromium)
    shift
    if [ -z "$(find_chromium)" ]; then
        echo "=== installing Chromium"
        timeout 300 sh -c 'apt-get update -qq && apt-get install -qq -y chromium' \
            >/dev/null 2>&1 || echo "Chromium could not be installed"
    fi
    ;;
esac

for example in "$@"; do
    case $example in
    python | node | browser | beam) ;;
    *)
        echo "no example called $example: python, node, browser or beam" >&2
        exit 2
        ;;
    esac
done
failed=0
said=""
for example in ${*:-python node browser beam}; do
    note=""
    case $example in
    node | browser)
        if ! node_is_here; then
            said="$said
$example: skipped, needs npm and Node 20.19 or newer"
            continue
        fi
        ;;
    esac
    if [ "$example" = browser ] && [ -z "$(find_chromium)" ]; then
        note=", but the page itself was not tried: no Chromium (apt-get install chromium)"
    fi
    echo "=== $example"
    started=$(date +%s)
    if timeout "$limit" sh "$root/scripts/test-examples.sh" --one "$example"; then
        result=passed
    else
        result="FAILED (exit code $?)"
        failed=1
    fi
    said="$said
$example: $result in $(($(date +%s) - started)) s$note"
done
echo "===$said"
exit "$failed"
