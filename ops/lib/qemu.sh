# shellcheck shell=bash
# Where QEMU comes from: the distribution if it is new enough, on Debian 12 its backports suite, with sources derived
# from the ones that are already on the machine. Source it after packages.sh.

: "${log:?source common.sh first}"

# The oldest QEMU whose D-Bus display and migration to files Lucarne uses; vm-host/qemu checks the same.
qemu_minimum=9.2

backports_file=/etc/apt/sources.list.d/lucarne-backports.sources
backports_list=/etc/apt/sources.list.d/backports.list

qemu_is_good() {
    local version
    has qemu-system-x86_64 || return 1
    version=$(qemu-system-x86_64 --version 2>/dev/null | sed -n 's/.*version \([0-9.]*\).*/\1/p;q')
    version_at_least "${version:-0}" "$qemu_minimum" || return 1
    qemu-system-x86_64 -display help 2>/dev/null | grep -qx dbus
}

# os_release FIELD
os_release() {
    # shellcheck disable=SC1091
    (. /etc/os-release 2>/dev/null && printf '%s' "${!1:-}")
}

# A Debian version without epoch and revision.
upstream_version() {
    local version=${1#*:}
    printf '%s' "${version%%[-+~]*}"
}

candidate_is_good() {
    version_at_least "$(upstream_version "$(apt_candidate "$1")")" "$qemu_minimum"
}

# The newest version of a package in any suite that apt knows.
newest_known() {
    LC_ALL=C apt-cache madison "$1" 2>/dev/null | awk -F'|' '{ gsub(/ /, "", $2); print $2 }' | sort -V | tail -n 1
}

qemu_packages=(qemu-system-x86 qemu-system-modules-opengl qemu-utils)

on_bookworm() {
    [ "$(os_release ID)" = debian ] && [ "$(os_release VERSION_CODENAME)" = bookworm ]
}

# Says how an administrator installs QEMU.
advise_qemu() {
    local from="" server
    if on_bookworm && ! candidate_is_good qemu-system-x86; then
        server=$(backports_stanzas /etc/apt | tr '\0' '\n' | sed -n 's/^URIs: *//p;T;q')
        say "  echo 'deb ${server:-http://deb.debian.org/debian} bookworm-backports main' > $backports_list"
        say "  apt-get update"
        from=" -t bookworm-backports"
    fi
    say "  apt-get install --no-install-recommends$from ${qemu_packages[*]}    # $qemu_minimum or newer"
}

install_qemu() {
    if candidate_is_good qemu-system-x86; then
        step "Installing QEMU" apt_install "${qemu_packages[@]}"
    elif on_bookworm; then
        add_backports
        step "Installing QEMU from bookworm-backports" apt_install -t bookworm-backports "${qemu_packages[@]}"
    else
        qemu_too_old
    fi
    hash -r
    qemu_is_good || die 2 "QEMU is installed, but $(command -v qemu-system-x86_64 || echo qemu-system-x86_64) is older" \
        "than $qemu_minimum or has no D-Bus display. If it is one of your own, build it with --enable-dbus-display" \
        "or take it off PATH."
}

qemu_too_old() {
    local offered
    offered=$(upstream_version "$(apt_candidate qemu-system-x86)")
    die 2 "Lucarne needs QEMU $qemu_minimum or newer, and $(os_release PRETTY_NAME) offers ${offered:-none}." \
        $'\n'"Either use Debian 12, Debian 13 or Ubuntu 25.04 or newer, or put a newer qemu-system-x86_64 first on PATH" \
        $'\n'"(built with --enable-dbus-display --enable-slirp --enable-seccomp) and start again."
}

# Makes bookworm-backports known to apt. Each of the machine's own sources for bookworm is tried until one has it,
# because other people's repositories use the suite's name too.
add_backports() {
    local stanza
    ! version_at_least "$(upstream_version "$(newest_known qemu-system-x86)")" "$qemu_minimum" || return 0
    while IFS= read -r -d '' stanza; do
        printf '%s' "$stanza" | as_root tee "$backports_file" >/dev/null
        as_root chmod 644 "$backports_file"
        say "Debian 12 has QEMU 7.2; a newer one comes from its backports suite ($backports_file)."
        step "Reading the list of backports" update_backports_only
        if version_at_least "$(upstream_version "$(newest_known qemu-system-x86)")" "$qemu_minimum"; then
            return 0
        fi
        as_root rm -f "$backports_file"
    done < <(backports_stanzas /etc/apt)
    # shellcheck disable=SC2034 # common.sh reads it
    keep_log=yes
    die 2 "No bookworm-backports suite was found beside this machine's package sources. Add one that has QEMU" \
        "$qemu_minimum or newer to /etc/apt/sources.list.d, and start again. What apt said is in $log."
}

# Reads this one source and leaves the lists of the others alone. Whether that worked shows in what apt then knows.
update_backports_only() {
    as_root apt-get -q -o DPkg::Lock::Timeout=300 -o Dir::Etc::sourcelist="$backports_file" \
        -o Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0 update || true
}

# Prints a deb822 stanza for bookworm-backports from each source of the machine that serves bookworm itself, ended by
# NUL bytes, those whose address ends like Debian's own first. Takes the folder of the sources.
backports_stanzas() {
    local etc=$1 file
    {
        for file in "$etc"/sources.list.d/*.sources; do
            [ ! -r "$file" ] || deb822_stanzas "$file"
        done
        for file in "$etc"/sources.list "$etc"/sources.list.d/*.list; do
            [ ! -r "$file" ] || one_line_stanzas "$file"
        done
    } | rank_stanzas
}

# Stanzas (deb822, see sources.list(5)) end with an empty line; fields continue on lines that begin with a space.
deb822_stanzas() {
    awk '
        function flush() {
            if (enabled && types ~ / deb / && suites ~ / (bookworm|oldstable|stable) / && components ~ / main / && uris)
                printf "Types: deb\n%sSuites: bookworm-backports\nComponents: main\n%s%c", uris, kept, 0
            enabled = 1; types = suites = components = uris = kept = field = ""
        }
        BEGIN { flush() }
        { sub(/\r$/, "") }
        /^#/ { next }
        /^[ \t]*$/ { flush(); next }
        { value = $0 }
        !/^[ \t]/ { field = tolower($0); sub(/:.*/, "", field); sub(/^[^:]*:/, "", value) }
        field == "enabled" && tolower(value) ~ /no|false|off|without|disable|0/ { enabled = 0 }
        field == "types" { types = types " " value " " }
        field == "suites" { suites = suites " " value " " }
        field == "components" { components = components " " value " " }
        field == "uris" { uris = uris $0 "\n" }
        field ~ /^(signed-by|trusted|architectures|allow-insecure|by-hash)$/ { kept = kept $0 "\n" }
        END { flush() }
    ' "$1"
}

# deb [option=value ...] address suite component...
one_line_stanzas() {
    awk '
        BEGIN {
            name["signed-by"] = "Signed-By"; name["trusted"] = "Trusted"; name["arch"] = "Architectures"
            name["allow-insecure"] = "Allow-Insecure"; name["by-hash"] = "By-Hash"
        }
        $1 != "deb" { next }
        {
            line = $0
            sub(/#.*/, "", line)
            sub(/^[ \t]*deb[ \t]+/, "", line)
            kept = ""
            if (line ~ /^\[/) {
                options = line
                sub(/\].*/, "", options)
                sub(/^\[/, "", options)
                sub(/^[^\]]*\][ \t]*/, "", line)
                count = split(options, option, /[ \t]+/)
                for (i = 1; i <= count; i++) {
                    key = value = option[i]
                    sub(/=.*/, "", key)
                    sub(/^[^=]*=/, "", value)
                    gsub(/,/, " ", value)
                    if (key in name) kept = kept name[key] ": " value "\n"
                }
            }
            count = split(line, word, /[ \t]+/)
            has_main = 0
            for (i = 3; i <= count; i++) if (word[i] == "main") has_main = 1
            if (has_main && word[2] ~ /^(bookworm|oldstable|stable)$/)
                printf "Types: deb\nURIs: %s\nSuites: bookworm-backports\nComponents: main\n%s%c", word[1], kept, 0
        }
    ' "$1"
}

rank_stanzas() {
    local stanza first=() others=()
    while IFS= read -r -d '' stanza; do
        if [[ $stanza =~ /debian/?[[:space:]] ]]; then
            first+=("$stanza")
        else
            others+=("$stanza")
        fi
    done
    if [ "$((${#first[@]} + ${#others[@]}))" != 0 ]; then
        printf '%s\0' "${first[@]}" "${others[@]}"
    fi
}
