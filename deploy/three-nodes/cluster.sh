#!/bin/sh
# Three nodes with etcd and PostgreSQL on one machine's loopback: for a trial, and to watch what happens when one goes.
#
#   cluster.sh start             everything; a second time: what is not running
#   cluster.sh status            who is running, and who says that it is ready
#   cluster.sh ctl NODE …        `carillon ctl` at a node: cluster.sh ctl a calls
#   cluster.sh phone NODE USER … `carillon phone` as alice or bob: cluster.sh phone a bob --answer
#   cluster.sh kill NODE         kill -9
#   cluster.sh stop [NODE…]      SIGTERM, which drains; without a name everything ends
#
# Environment: CARILLON (the program; target/release/carillon), WORK (where data go), POSTGRES (directory of initdb and postgres).
set -eu

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
carillon=${CARILLON:-${CARGO_TARGET_DIR:-$top/target}/release/carillon}
# PostgreSQL does not run as root, and its user has to reach its files.
if [ "$(id -u)" = 0 ]; then
    work=${WORK:-/var/lib/carillon-three-nodes}
    as_postgres="setpriv --reuid=postgres --regid=postgres --clear-groups"
else
    work=${WORK:-$top/target/three-nodes}
    as_postgres=
fi
if [ -d "$work" ]; then work=$(cd "$work" && pwd -P); fi
nodes="a b c"
backend=127.0.0.10

fail() {
    echo "cluster.sh: $*" >&2
    exit 1
}

address() {
    case $1 in a) echo 127.0.0.11 ;; b) echo 127.0.0.12 ;; c) echo 127.0.0.13 ;; *) fail "no node $1; there are $nodes" ;; esac
}

# What is in NAME.pid runs, and is ours: a number may come again after a restart of the machine.
running() {
    [ -f "$work/$1.pid" ] || return 1
    process=/proc/$(cat "$work/$1.pid")
    case $(sed -n 's/^State:[[:space:]]*//p' "$process/status" 2>/dev/null) in "" | Z* | X*) return 1 ;; esac
    case $(readlink "$process/cwd") in "$work"*) ;; *) return 1 ;; esac
}

# Waits for processes to be gone.
gone() {
    for name in "$@"; do
        while running "$name"; do sleep 0.1; done
        rm -f "$work/$name.pid"
    done
}

# launch NAME COMMAND…: in the background, its words in NAME.log.
launch() {
    name=$1
    shift
    (cd "$work" && exec "$@" >>"$work/$name.log" 2>&1 </dev/null) &
    echo $! >"$work/$name.pid"
}

# until_so NAME WHAT COMMAND…: waits for the command to succeed while NAME runs.
until_so() {
    name=$1
    what=$2
    shift 2
    turns=0
    until "$@" >/dev/null 2>&1; do
        running "$name" || fail "$name has ended; its last words:
$(tail -n 20 "$work/$name.log")"
        turns=$((turns + 1))
        [ $turns -lt 300 ] || fail "$name $what not within a minute; see $work/$name.log"
        sleep 0.2
    done
}

postgres_programs() {
    if [ -n "${POSTGRES:-}" ]; then echo "$POSTGRES"; return; fi
    for bin in /usr/lib/postgresql/*/bin; do
        if [ -x "$bin/initdb" ]; then found=$bin; fi
    done
    [ -n "${found:-}" ] || fail "PostgreSQL's server is missing: apt-get install --no-install-recommends postgresql, or name it in POSTGRES"
    echo "$found"
}

start_backend() {
    command -v etcd >/dev/null || fail "etcd is missing: apt-get install --no-install-recommends etcd-server"
    programs=$(postgres_programs)
    if ! running etcd; then
        launch etcd etcd --name trial --data-dir "$work/etcd" \
            --listen-client-urls "http://$backend:2379" --advertise-client-urls "http://$backend:2379" \
            --listen-peer-urls "http://$backend:2380" --initial-advertise-peer-urls "http://$backend:2380" \
            --initial-cluster "trial=http://$backend:2380"
        until_so etcd "answers" curl --silent --fail "http://$backend:2379/health"
    fi
    if ! running postgresql; then
        if [ ! -d "$work/postgresql" ]; then
            mkdir -m 0700 "$work/postgresql"
            if [ -n "$as_postgres" ]; then chown postgres: "$work/postgresql"; fi
            # shellcheck disable=SC2086 # several words, or none
            (cd "$work/postgresql" && $as_postgres "$programs/initdb" -D data -A trust -U carillon -E UTF8 --locale=C) \
                >"$work/postgresql.log" 2>&1 || fail "initdb: $(tail -n 5 "$work/postgresql.log")"
        fi
        # shellcheck disable=SC2086
        launch postgresql $as_postgres "$programs/postgres" -D "$work/postgresql/data" -k "$work/postgresql" \
            -c listen_addresses=$backend -p 5432
        until_so postgresql "answers" "$programs/pg_isready" -q -h $backend -p 5432
        # shellcheck disable=SC2086
        has=$($as_postgres "$programs/psql" -h $backend -U carillon -d postgres -Atc "SELECT 1 FROM pg_database WHERE datname = 'carillon'")
        # shellcheck disable=SC2086
        [ "$has" = 1 ] || $as_postgres "$programs/createdb" -h $backend -U carillon carillon
    fi
}

start_node() {
    running "$1" && return
    "$carillon" serve --check --config "$here/$1.toml" >/dev/null
    launch "$1" "$carillon" serve --config "$here/$1.toml"
    until_so "$1" "is ready" curl --silent --fail "http://$(address "$1"):9090/readyz"
    echo "$1 is ready at $(address "$1")"
}

start() {
    [ -x "$carillon" ] || fail "$carillon is missing: cargo build --release, or name the program in CARILLON"
    mkdir -p "$work"
    work=$(cd "$work" && pwd -P)
    cd "$work"
    [ -f secret.key ] || (umask 077 && head -c 32 /dev/urandom >secret.key)
    start_backend
    for node in $nodes; do start_node "$node"; done
    if [ ! -f first-client ]; then
        "$carillon" ctl --data "$work/a" apply -f "$top/deploy/first-client.yaml" >first-client.log
        : >first-client
    fi
}

# ended NAME…: SIGTERM, then waits.
ended() {
    for name in "$@"; do
        # SIGINT has PostgreSQL end its connections first.
        signal=TERM
        if [ "$name" = postgresql ]; then signal=INT; fi
        if running "$name"; then kill -s $signal "$(cat "$work/$name.pid")"; fi
    done
    gone "$@"
}

command=${1:-}
[ $# = 0 ] || shift
case $command in
start) start ;;
stop)
    for node in "$@"; do address "$node" >/dev/null; done
    # shellcheck disable=SC2086
    if [ $# -gt 0 ]; then ended "$@"; else ended $nodes && ended postgresql etcd; fi
    ;;
kill)
    address "${1:?name a node}" >/dev/null
    running "$1" || fail "$1 is not running"
    kill -s KILL "$(cat "$work/$1.pid")"
    gone "$1"
    ;;
ctl)
    address "${1:?name a node}" >/dev/null
    node=$1
    shift
    exec "$carillon" ctl --data "$work/$node" "$@"
    ;;
phone)
    [ $# -ge 2 ] || fail "phone NODE USER …"
    case $2 in alice) password=CHANGEME-now-123 ;; bob) password=CHANGEME-now-223 ;; *) fail "no user $2; there are alice (101) and bob (102)" ;; esac
    server=$(address "$1"):5060
    user=$2
    shift 2
    CARILLON_PHONE_PASSWORD=$password exec "$carillon" phone --user "$user" --domain shop.example.com --server "$server" \
        --bind 127.0.0.1 "$@"
    ;;
status)
    for name in etcd postgresql $nodes; do
        state="not running"
        if running "$name"; then state="running, process $(cat "$work/$name.pid")"; fi
        case $name in
        a | b | c) if curl --silent --fail "http://$(address "$name"):9090/readyz" >/dev/null; then state="$state, ready"; fi ;;
        esac
        echo "$name: $state"
    done
    ;;
*)
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
