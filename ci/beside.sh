#!/usr/bin/env bash
# What the scripts share that measure scylla-sim beside a real Cassandra; they source it. It gives them `sim_port`, a directory
# `$work`, and `start_both`; both servers are gone when the script ends.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

measured=$(basename "$0")
sim_port="${QUENCH_SCYLLA_SIM_PORT:-9342}"
export QUENCH_CASSANDRA_PORT="${QUENCH_CASSANDRA_PORT:-9242}"
export QUENCH_CASSANDRA_STORAGE_PORT="${QUENCH_CASSANDRA_STORAGE_PORT:-7200}"
export QUENCH_CASSANDRA_JMX_PORT="${QUENCH_CASSANDRA_JMX_PORT:-7399}"
export QUENCH_CASSANDRA_STATE="${QUENCH_CASSANDRA_STATE:-$PWD/target/quench/$measured-cassandra}"

work=$(mktemp -d)
sim=
finish() {
    [ -z "$sim" ] || kill "$sim" 2>/dev/null || true
    wait 2>/dev/null || true
    ci/cassandra wipe >"$work/wipe.log" 2>&1 || cat "$work/wipe.log" >&2
    rm -rf "$work"
}
trap finish EXIT

# start_both NODES: so many nodes of each, empty.
start_both() {
    step "real nodes" ci/cassandra start --nodes "$1" --fresh
    target/release/scylla-sim --nodes "$1" --flavor cassandra --data "$work/data" --listen "127.0.0.1:$sim_port" \
        >"$work/sim.log" 2>&1 </dev/null &
    sim=$!
    local begun=$SECONDS
    until (exec 3<>"/dev/tcp/127.0.0.1/$sim_port") 2>/dev/null; do
        if ! kill -0 "$sim" 2>/dev/null || [ "$((SECONDS - begun))" -ge 20 ]; then
            echo "ci/$measured: scylla-sim does not serve: $(tail -n 1 "$work/sim.log")" >&2
            exit 1
        fi
        sleep 0.1
    done
}
