#!/bin/sh
# Generated requests over all four levels of the REST API: is every answer one that the documents tell of, and none a 5xx?
#
# Starts the acceptance server with the sample system on free ports, logs in at each level, and runs Schemathesis over the
# OpenAPI 3.1 documents, with a fixed seed and within a fixed time. Deletions come last at each level: by then everything
# else was tried on rows that were there. Nothing is left out but what would end the tester's own account (hooks.py).
#
# Environment: SECONDS_PER_LEVEL (20), LEVELS (all), PHASES (examples,fuzzing; `coverage` takes minutes), SEED, PYTHON,
# REPORTS (a directory for all requests and answers, as HAR). Needs python3 with venv, and once the package index.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$top/target}
python=${PYTHON:-python3}
seconds=${SECONDS_PER_LEVEL:-20}
seed=${SEED:-20260131}
phases=${PHASES:-examples,fuzzing}
levels=${LEVELS:-platform brand client user}

venv=$target/schemathesis-4.32.5
if [ ! -x "$venv/bin/schemathesis" ]; then
    "$python" -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
fi
(cd "$top" && cargo build --quiet --package api --bin api-acceptance)

work=$(mktemp -d)
server=
finish() {
    if [ -n "$server" ]; then kill "$server" 2>/dev/null || true; fi
    rm -rf "$work"
}
trap finish EXIT INT TERM

ports=$("$python" -c 'import socket
taken = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in taken))')
api=127.0.0.1:${ports% *}
control=127.0.0.1:${ports#* }
"$target/debug/api-acceptance" --listen "$api" --control "$control" --storage "$work/storage" \
    --doubles "$top/tests/data/acceptance-doubles.json" --import "$top/tests/data/sample-system.json" \
    >"$work/server.log" 2>&1 &
server=$!
# It keeps what it learns where it runs.
cd "$work"

# Documents are checked by themselves, then kept as files: what the generator reads is what was checked.
"$venv/bin/python" "$here/prepare.py" "http://$api" "$work" || { cat "$work/server.log"; exit 1; }

failed=
for level in $levels; do
    curl --silent --fail --request POST "http://$control/reset"
    for part in rest delete; do
        if [ "$part" = delete ]; then only="--include-method DELETE"; time=$((seconds / 4)); else
            only="--exclude-method DELETE"; time=$((seconds - seconds / 4)); fi
        echo "== $level, $part"
        report=${REPORTS:+--report har --report-har-path $REPORTS/$level-$part.har}
        # shellcheck disable=SC2086 # several words
        TESTER=$(cat "$work/$level.id") PYTHONPATH="$here" SCHEMATHESIS_HOOKS=hooks "$venv/bin/schemathesis" \
            --config-file "$here/schemathesis.toml" \
            run "$work/$level.json" --url "http://$api/api/$level" $only $report \
            --header "Authorization: Bearer $(cat "$work/$level.token")" \
            --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
            --phases "$phases" --max-time "$time" --seed "$seed" --workers 1 --continue-on-failure --no-shrink \
            --generation-database none --suppress-health-check all --warnings off --no-color \
            || failed="$failed $level/$part"
        kill -0 "$server" || { echo "the server is gone:"; cat "$work/server.log"; exit 1; }
    done
    "$venv/bin/python" "$here/prepare.py" "http://$api" "$work" "$level" || failed="$failed $level/tester"
done
if [ -n "$failed" ]; then
    echo "failed:$failed"
    exit 1
fi
