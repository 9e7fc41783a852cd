# shellcheck shell=bash
# promtool, which checks metrics and alert rules as Prometheus reads them. It comes with Prometheus, whose package would also
# start a server, so on Debian it is only taken out of the package. Source it after packages.sh.

: "${log:?source common.sh first}" "${root:?}"

promtool_file=$root/target/tools/promtool

has_promtool() {
    has promtool || [ -x "$promtool_file" ]
}

download_prometheus() {
    apt-get -q -o APT::Sandbox::User=root download prometheus
}

unpack_promtool() {
    local folder
    folder=$(mktemp -d) || return
    (
        # Without lists of packages it is not known where there is one.
        cd "$folder" && { download_prometheus || { apt_update && download_prometheus; }; } &&
            dpkg-deb --fsys-tarfile prometheus_*.deb | tar -xO ./usr/bin/promtool >promtool &&
            chmod 755 promtool && mkdir -p "${promtool_file%/*}" && mv promtool "$promtool_file"
    )
    local status=$?
    rm -rf "$folder"
    return $status
}

get_promtool() {
    has_promtool && return
    has apt-get || die 2 "promtool is missing, which checks metrics; install it (it comes with Prometheus) and start again."
    step "Taking promtool out of Prometheus' package" unpack_promtool
}
