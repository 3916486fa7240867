#!/usr/bin/env bash
# All Rust tests. nextest where it is installed (a process a test, which suits tests that fork), else cargo's own runner.
set -euo pipefail
cd "$(dirname "$0")/.."
if cargo nextest --version >/dev/null 2>&1; then
    cargo nextest run --workspace --no-fail-fast "$@"
    cargo test -q --workspace --doc
else
    cargo test --workspace --no-fail-fast "$@"
fi
