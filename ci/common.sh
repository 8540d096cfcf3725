#!/usr/bin/env bash
# What the scripts of ci/ share; they source it. It changes to the root of the tree and gives them `step`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Flags from the environment, even empty ones, silently replace `--config build.rustflags`, and with it --cfg madsim.
unset RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"

summary=()

# step NAME COMMAND... runs a command under a heading and notes how long it took; the first failure ends the script.
step() {
    local name="$1" begun=$SECONDS status=0
    shift
    printf '\n==> %s: %s\n' "$name" "$*"
    "$@" || status=$?
    if [ "$status" -ne 0 ]; then
        printf '\n==> %s FAILED (exit %s) after %s s\n    again: %s\n' "$name" "$status" "$((SECONDS - begun))" "$*" >&2
        exit "$status"
    fi
    summary+=("$(printf 'ok      %4s s  %s' "$((SECONDS - begun))" "$name")")
}

# skip NAME REASON says plainly that something was not checked.
skip() {
    printf '\n==> %s SKIPPED: %s\n' "$1" "$2"
    summary+=("$(printf 'skipped         %s (%s)' "$1" "$2")")
}

# The commit as a seed, so that each commit explores elsewhere and a failure is found again from the log.
commit_seed() {
    git rev-parse --verify --quiet HEAD || echo 1
}

# A live run that says nothing: `quench live` ends with this when a fault changed nothing, as on a machine that is very slow
# or very quick.
INCONCLUSIVE=13

# conclusive SEED COMMAND...: COMMAND SEED, and with the next seed, three in all, while it is inconclusive; any other end is the
# end.
conclusive() {
    local seed="$1" n status
    shift
    for n in 0 1 2; do
        status=0
        "$@" "$((seed + n))" || status=$?
        [ "$status" -eq "$INCONCLUSIVE" ] || return "$status"
        echo "seed $((seed + n)) said nothing" >&2
    done
    echo "three seeds in a row said nothing" >&2
    return "$INCONCLUSIVE"
}

# was_tried LOG STRUCK IN_FLIGHT: inconclusive unless a live run struck settlement so often, and so often with events in
# flight.
was_tried() {
    local struck in_flight
    struck=$(sed -n 's/.*settlement struck \([0-9]*\) times.*/\1/p' "$1")
    in_flight=$(sed -n 's/.*times, \([0-9]*\) of them with events in flight.*/\1/p' "$1")
    if [ "${struck:-0}" -lt "$2" ] || [ "${in_flight:-0}" -lt "$3" ]; then
        echo "settlement was struck ${struck:-0} times, ${in_flight:-0} of them with events in flight; at least $2 and $3 are wanted" >&2
        return "$INCONCLUSIVE"
    fi
}
