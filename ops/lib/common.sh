# shellcheck shell=bash
# Shared by the scripts in ops/: messages, progress, who runs what. Source it after `set -euo pipefail`.
#
# Everything for people goes to standard error. The output of each step goes to one log file per run, which is
# removed unless a step fails: then its last lines and the file's path are shown.

# The top of the source tree.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# Distributions leave sbin out of an ordinary user's PATH; rustup installs to the home folder.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# The user to build as: whoever called sudo, if the tree is theirs, so that they can build without it the next time.
builder=$(id -un)
builder_home=${HOME:-/root}
if [ "$(id -u)" = 0 ] && [ -n "${SUDO_USER:-}" ] && [ "$(stat -c %U "$root")" = "$SUDO_USER" ]; then
    builder=$SUDO_USER
    builder_home=$(getent passwd "$builder" | cut -d: -f6)
fi
PATH=$builder_home/.cargo/bin:$PATH
export PATH

# Each desktop runs what is built here as a user of its own.
umask 022

log=$(mktemp "${TMPDIR:-/tmp}/lucarne-$(basename "$0").XXXXXXXX.log")
# Whether someone has been told to look into it.
keep_log=no
spinner_pid=

say() {
    printf '%s\n' "$*" >&2
}

# A failure that says what to do. The first argument is the exit status: 1 something failed, 2 something is missing.
die() {
    local status=$1
    shift
    say "$@"
    exit "$status"
}

stop_spinner() {
    [ -n "$spinner_pid" ] || return 0
    kill "$spinner_pid" 2>/dev/null || true
    wait "$spinner_pid" 2>/dev/null || true
    spinner_pid=
    if [ -t 2 ]; then
        printf '\r\033[K' >&2
    fi
}

# Before the script ends, and before it is replaced by another program.
clean_up() {
    stop_spinner
    rm -f "$log"
}

trap 'status=$?; stop_spinner; [ "$keep_log" = yes ] || rm -f "$log"; exit "$status"' EXIT
trap 'stop_spinner; exit 129' HUP
trap 'stop_spinner; exit 130' INT
trap 'stop_spinner; exit 143' TERM

# The end of the log as lines, without colours and the bars of progress; what a bar says beside itself stays.
log_end() {
    tail -c 8000 "$log" | tr '\r' '\n' |
        sed -E 's/\x1b\[[0-9;?]*[A-Za-z]//g; s/[^[:print:]]//g; s/\[[=> -]{9,}\] *//' | grep -v '^ *$' || true
}

# The last thing that the log says.
last_line() {
    log_end | tail -n 1
}

# Shows that LABEL moves, until it is killed or its script is gone: a line that turns on a terminal, else a line every
# 30 seconds.
spin() {
    local label=$1 started=$SECONDS frames='-\|/' turn=0 columns text
    # It must not outlive a Ctrl-C, which the script itself answers.
    trap - EXIT HUP INT TERM
    if [ ! -t 2 ]; then
        while sleep 30 && kill -0 $$ 2>/dev/null; do
            say "  $label ($((SECONDS - started)) s): $(last_line)"
        done
        return
    fi
    while kill -0 $$ 2>/dev/null; do
        columns=$(tput cols 2>/dev/null || echo 80)
        text="${frames:turn++%4:1} $label ($((SECONDS - started)) s)  $(last_line)"
        printf '\r\033[K%s' "${text:0:columns-1}" >&2
        sleep 0.2
    done
}

# step LABEL COMMAND...: runs a command with its output in the log. `set -e` does not hold inside of a function that is
# run this way, so such a function chains its commands with &&.
step() {
    local label=$1 started=$SECONDS status=0
    shift
    printf '== %s: %s\n' "$label" "$*" >>"$log"
    [ -t 2 ] || say "$label"
    spin "$label" &
    spinner_pid=$!
    "$@" >>"$log" 2>&1 </dev/null || status=$?
    stop_spinner
    if [ "$status" != 0 ]; then
        keep_log=yes
        say "$label failed (exit status $status). The last lines of $log:"
        log_end | { grep -v '^ *Building [0-9]' || true; } | tail -n 20 | sed 's/^/    /' >&2
        exit 1
    fi
    # What took no time is not worth a line on a terminal.
    if [ $((SECONDS - started)) -ge 2 ]; then
        say "$label: done in $((SECONDS - started)) s"
    fi
}

# Whether a command exists.
has() {
    command -v "$1" >/dev/null 2>&1
}

# Makes sure that as_root works, asking for the password now and not behind a spinner. REASON is for the person who is
# asked.
require_root() {
    local reason=$1
    [ "$(id -u)" != 0 ] || return 0
    has sudo || return 1
    sudo -n true 2>/dev/null && return 0
    [ -t 0 ] || return 1
    say "$reason needs root; sudo asks for your password."
    sudo -v
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -- "$@"
    fi
}

# Runs a command as the user who builds.
as_builder() {
    if [ "$(id -un)" = "$builder" ]; then
        "$@"
    else
        runuser -u "$builder" -- env HOME="$builder_home" USER="$builder" LOGNAME="$builder" PATH="$PATH" "$@"
    fi
}

# version_at_least VERSION MINIMUM
version_at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

[ "$(uname -m)" = x86_64 ] || die 2 "Lucarne runs on x86-64 Linux; this machine is $(uname -s) on $(uname -m)."
[ -r /proc/self/status ] || die 2 "/proc is not mounted here; mount it first: mount -t proc proc /proc"
