#!/usr/bin/env bash
# Installs what `make TARGET` needs and is missing: Debian packages (as root, or by sudo) and a virtualenv in .venv.
# Does nothing where all is there, so that it costs nothing the second time.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?usage: scripts/setup.sh demo|test|lint|conformance|bench|instructions}

say() { printf '== %s\n' "$*" >&2; }

need_packages() {
    local missing=()
    while [ $# -gt 0 ]; do
        PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing+=("$2")
        shift 2
    done
    [ ${#missing[@]} -eq 0 ] && return
    say "installing ${missing[*]}"
    local sudo=
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || { say "please install: ${missing[*]}"; exit 1; }
        sudo=sudo
    fi
    command -v apt-get >/dev/null || { say "please install (no apt-get here): ${missing[*]}"; exit 1; }
    $sudo apt-get update -qq
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

need_venv() {
    local requirements=$1 stamp
    stamp=.venv/.installed-${requirements//\//_}
    if [ ! -e "$stamp" ] || [ "$requirements" -nt "$stamp" ]; then
        say "python packages of $requirements into .venv"
        [ -x .venv/bin/python ] || python3 -m venv .venv
        .venv/bin/pip install -q -r "$requirements"
        touch "$stamp"
    fi
}

need_cargo() {
    command -v cargo >/dev/null || { say "please install Rust (rustup)"; exit 1; }
}

need_cargo
need_packages cc gcc make make
case $target in
    demo)
        need_packages nginx nginx-light curl curl
        need_venv tests/fixtures/requirements.txt
        ;;
    test)
        need_packages nginx nginx-light curl curl strace strace redis-server redis-server
        (need_packages chromium chromium) || say "no chromium: the dashboard is not looked at in a browser"
        ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || need_packages initdb postgresql
        need_venv tests/fixtures/requirements.txt
        ;;
    lint)
        command -v cargo-deny >/dev/null || { say "cargo install cargo-deny"; cargo install -q --locked cargo-deny --version 0.20.2; }
        ;;
    conformance)
        need_packages nginx nginx-light curl curl openssl openssl
        need_venv "${CONFORMANCE:-../shared/conformance}/requirements.txt"
        ;;
    bench)
        need_packages nginx nginx-light uwsgi uwsgi-core
        [ -e /usr/lib/uwsgi/plugins/lua51_plugin.so ] || need_packages /usr/lib/uwsgi/plugins/lua51_plugin.so uwsgi-plugin-lua5.1
        need_venv benches/requirements.txt
        ;;
    instructions)
        need_packages valgrind valgrind
        ;;
    *)
        say "unknown target $target"
        exit 2
        ;;
esac
