# shellcheck shell=bash
# What Lucarne needs from the distribution: finds out what is missing by asking for the thing itself, and installs it
# with apt, saying what and why. Source it after common.sh. Where QEMU comes from is in qemu.sh.

: "${log:?source common.sh first}"

# PACKAGE|REASON|CHECK: the Debian package, why it is needed, and the command that tells whether the thing is there.
# shellcheck disable=SC2034 # for the scripts that source this
runtime_needs=(
    "qemu-utils|makes and converts the desktops' disks|has qemu-img"
    "mmdebstrap|builds the golden image from Debian packages|has mmdebstrap"
    "fdisk|partitions the golden image|has sfdisk"
    "e2fsprogs|makes the golden image's file system|has mke2fs"
    "debian-archive-keyring|checks the packages of the golden image|test -e /usr/share/keyrings/debian-archive-keyring.gpg"
    "nftables|keeps desktops away from this machine's own network|has nft"
    "ca-certificates|checks the servers that packages come from|test -e /etc/ssl/certs/ca-certificates.crt"
)
# shellcheck disable=SC2034
build_needs=(
    "gcc|compiles and links|compiles_c"
    "libc6-dev|compiles and links|compiles_c"
    "g++|compiles the video encoder, and the fuzzer of the tests|compiles_cpp"
    "nasm|makes the video encoder three times as fast|has_nasm_or_no_apt"
    "make|builds C libraries|has make"
    "pkg-config|finds C libraries|has pkg-config"
    "libturbojpeg0-dev|encodes pictures as JPEG|pkg-config --exists libturbojpeg"
    "libopus-dev|encodes sound|pkg-config --exists opus"
    "libssl-dev|TLS for VNC viewers without certificates|pkg-config --exists openssl"
    "nodejs|builds the web client (Node 18 or newer)|node_is_new_enough"
    "npm|builds the web client|has npm"
)
# shellcheck disable=SC2034
postgresql_need="postgresql|the database that several brokers share|has_postgresql"
# shellcheck disable=SC2034
test_needs=(
    "chromium|tests the web client|has chromium"
    "tigervnc-viewer|tests with an ordinary VNC viewer|has xtigervncviewer"
    "gvncviewer|tests with gtk-vnc's viewer|has gvncviewer"
    "remmina|tests with libvncclient's viewer|has remmina"
    "remmina-plugin-vnc|tests with libvncclient's viewer|has_remmina_vnc"
    "xvfb|a screen for the VNC viewers|has Xvfb"
    "x11-xserver-utils|two monitors for the VNC viewers|has xrandr"
    "xdotool|types into the VNC viewers|has xdotool"
    "xclip|copies and pastes beside the VNC viewers|has xclip"
    "openssh-client|checks host keys|has ssh-keygen"
    "iproute2|makes network namespaces|has ip"
    "python3-venv|checks the API against its document|has_python_venv"
    "$postgresql_need"
)

# shellcheck disable=SC2034
bench_needs=(
    "tigervnc-standalone-server|to compare with|has Xvnc"
)

compiles_c() {
    has cc && printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

compiles_cpp() {
    has c++ && printf '#include <atomic>\nint main() { return 0; }\n' | c++ -x c++ -o /dev/null - 2>/dev/null
}

# The encoder is built without it too, so where it is not installed for them nobody has to look for it.
has_nasm_or_no_apt() {
    has nasm || ! has apt-get
}

has_remmina_vnc() {
    compgen -G "/usr/lib/*/remmina/plugins/remmina-plugin-vnc.so"
}

# Debian has what installs Python packages apart from Python.
has_python_venv() {
    has python3 && python3 -c 'import ensurepip, venv'
}

# The server's programs are beside each other, by release, and not on PATH.
has_postgresql() {
    compgen -G "/usr/lib/postgresql/*/bin/initdb" || has initdb
}

node_is_new_enough() {
    has node && node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)'
}

# Fills `missing` with the needs among the arguments that are not met.
find_missing() {
    local need check
    missing=()
    for need in "$@"; do
        read -ra check <<<"${need##*|}"
        "${check[@]}" >/dev/null 2>&1 || missing+=("$need")
    done
}

# Somebody's unreachable repository is no reason to stop: if it matters, installing fails and says so.
apt_update() {
    as_root apt-get -q -o DPkg::Lock::Timeout=300 update || echo "Going on with the lists that could be read."
}

# Options and packages.
apt_install() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@"
}

# Debian starts a server as soon as one is installed; tests start their own, and nobody asked for another.
apt_install_postgresql_common() {
    local conf=/etc/postgresql-common/createcluster.conf
    apt_install postgresql-common &&
        as_root sed -i 's/^#\?create_main_cluster.*/create_main_cluster = false/' "$conf"
}

# The version that apt would install; empty if none.
apt_candidate() {
    LC_ALL=C apt-cache policy "$1" 2>/dev/null | awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

list_needs() {
    local need package reason
    for need in "$@"; do
        IFS='|' read -r package reason _ <<<"$need"
        printf '  %-26s %s\n' "$package" "$reason" >&2
    done
}

# install_packages NEED...: installs what is missing of the needs, and QEMU.
install_packages() {
    local needs=("$@") missing unmet=() need package packages=() listed
    find_missing "${needs[@]}"
    local with_qemu=no
    qemu_is_good || with_qemu=yes
    if [ "${#missing[@]}" = 0 ] && [ $with_qemu = no ]; then
        return 0
    fi

    listed=("${missing[@]}")
    if [ $with_qemu = yes ]; then
        listed=("qemu-system-x86|runs the desktops (QEMU $qemu_minimum or newer)|" \
            "qemu-system-modules-opengl|QEMU's D-Bus display|" "${listed[@]}")
    fi
    say "Lucarne needs these packages, which are not here:"
    list_needs "${listed[@]}"
    if ! has apt-get; then
        die 2 "They are named as on Debian; this system has no apt-get, so install what it calls them and start again."
    fi
    if ! require_root "Installing packages"; then
        say "Installing them needs root, and sudo does not allow it here. Let an administrator run:"
        say ""
        if [ $with_qemu = yes ]; then
            advise_qemu
        fi
        if [ "${#missing[@]}" != 0 ]; then
            say "  apt-get install --no-install-recommends ${missing[*]%%|*}"
        fi
        die 2 $'\n'"Then start again."
    fi

    step "Reading the package lists" apt_update
    for need in "${missing[@]}"; do
        package=${need%%|*}
        [ -n "$(apt_candidate "$package")" ] || unmet+=("$package")
        packages+=("$package")
    done
    if [ "${#unmet[@]}" != 0 ]; then
        die 2 "apt does not know ${unmet[*]}: enable the suite or component that has it (on Ubuntu: universe)" \
            "and start again."
    fi
    if [ $with_qemu = yes ]; then
        install_qemu
    fi
    if [[ " ${packages[*]} " = *" postgresql "* ]]; then
        step "Installing PostgreSQL's tools" apt_install_postgresql_common
    fi
    if [ "${#packages[@]}" != 0 ]; then
        step "Installing ${#packages[@]} packages" apt_install "${packages[@]}"
    fi

    hash -r
    find_missing "${needs[@]}"
    if [ "${#missing[@]}" != 0 ]; then
        say "These packages are installed, and still do not offer what is needed (an older one may come first on PATH):"
        list_needs "${missing[@]}"
        exit 2
    fi
}
