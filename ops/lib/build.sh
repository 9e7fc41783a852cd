# shellcheck shell=bash
# Builds the web client and the Rust programs, as the user who owns the tree. Source it after common.sh.

: "${log:?source common.sh first}" "${root:?}" "${builder_home:?}"

# Cargo, of a version that can read this workspace.
require_cargo() {
    local wanted have
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
    as_builder sh -c 'command -v cargo' >/dev/null || die 2 "Lucarne is built with Rust $wanted or newer, and cargo is" \
        "neither on PATH nor in $builder_home/.cargo/bin. Install Rust with rustup (https://rustup.rs) and start again."
    have=$(cd "$root" && as_builder cargo --version 2>>"$log" | cut -d' ' -f2) ||
        die 2 "cargo is installed but does not run: $(last_line)"
    version_at_least "$have" "$wanted" || die 2 "Lucarne is built with Rust $wanted or newer, and cargo here is $have." \
        "Update it (rustup update stable; a distribution's own cargo is often too old) and start again."
}

in_root() {
    (cd "$root" && as_builder "$@")
}

# Installs what a folder's package-lock.json names, if that has changed since the last time.
npm_install() {
    local folder=$1 stamp=$root/$1/node_modules/.lucarne-lock lock
    lock=$(sha256sum <"$root/$folder/package-lock.json")
    [ "$(cat "$stamp" 2>/dev/null || true)" != "$lock" ] || return 0
    step "Installing the npm packages of $folder" npm_ci "$folder"
    as_builder tee "$stamp" <<<"$lock" >/dev/null
}

npm_ci() {
    (cd "$root/$1" && as_builder npm ci --no-audit --no-fund)
}

# One line that changes with any source of the web client, and with the version of Node.
web_client_hash() {
    (
        cd "$root/web-client" || exit
        node --version
        find . \( -path ./node_modules -o -path ./dist -o -path ./test \) -prune -o -type f -print0 | sort -z |
            xargs -0 sha256sum
    ) | sha256sum
}

build_web_client() {
    local stamp=$root/target/web-client.stamp now
    now=$(web_client_hash)
    if [ -e "$root/web-client/dist/index.html" ] && [ "$(cat "$stamp" 2>/dev/null || true)" = "$now" ]; then
        return 0
    fi
    npm_install web-client
    step "Building the web client" web_client_build
    as_builder mkdir -p "$root/target"
    as_builder tee "$stamp" <<<"$now" >/dev/null
}

web_client_build() {
    (cd "$root/web-client" && as_builder npm run build)
}

# Types, format and unit tests.
web_client_check() {
    (cd "$root/web-client" && as_builder npm run check)
}

# cargo_step LABEL CARGO-ARGUMENT...: cargo counts what it has compiled, which is shown beside LABEL.
cargo_step() {
    local label=$1
    shift
    CARGO_TERM_PROGRESS_WHEN=always CARGO_TERM_PROGRESS_WIDTH=100 step "$label" in_root cargo "$@"
}

# build_rust LABEL CARGO-ARGUMENT...: only what changed is compiled.
build_rust() {
    local label=$1
    shift
    cargo_step "$label" build --release --locked "$@"
}
