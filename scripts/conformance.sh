#!/usr/bin/env bash
# The shared conformance cases of the areas built so far, against the debug build. Arguments go to pytest.
# Cases that cannot pass yet are in tests/conformance-known.txt, a reason each; one that starts to pass must be taken out of it.
set -euo pipefail
cd "$(dirname "$0")/.."
cases=${CONFORMANCE:-../shared/conformance}
target=${CARGO_TARGET_DIR:-target}
[ -d "$cases/cases" ] || { echo "no conformance cases at $cases: skipped"; exit 0; }
server=$(realpath "$target")/debug/imperator
areas=(test_hello test_config_ini test_config_protocol test_config_logging test_python_load test_python_wsgi test_python_frameworks
    test_cache test_process_life test_process_ops test_process_stats test_emperor test_emperor_health test_emperor_isolation test_static test_lua)
files=() deselect=()
for area in "${areas[@]}"; do files+=("$cases/cases/$area.py"); done
while read -r case _; do
    case $case in '' | '#'*) continue ;; esac
    deselect+=(--deselect "cases/$case")
done < tests/conformance-known.txt

run() {
    .venv/bin/python -m pytest -q --rootdir "$cases" -o "cache_dir=$(realpath "$target")/pytest" "${deselect[@]}" --server "$server" "$@" "${files[@]}"
}

if run -n 3 "$@"; then exit 0; fi
# Three at a time on two cores makes some waits of the cases too short: what failed has a second chance, alone.
echo "== once more, one at a time: what failed"
run --last-failed --last-failed-no-failures none "$@"
