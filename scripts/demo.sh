#!/usr/bin/env bash
# An emperor with four vassals and nginx in front, on loopback, in demo/run. Ctrl-C ends all of it.
# DEMO_PORT: nginx's port (8080, or the next free one). DEMO_SECONDS: end by itself after so long (tests use it).
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
run=$root/demo/run
binary=$(realpath "${CARGO_TARGET_DIR:-target}")/release/imperator
export PATH=$PATH:/usr/sbin:/sbin

free_port() {
    python3 - "$1" <<'PY'
import socket, sys
port = int(sys.argv[1])
for port in range(port, port + 100):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
    print(port)
    break
else:
    sys.exit("no free port")
PY
}

prepare() {
    rm -rf "$run"
    mkdir -p "$run"/{vassals,data,tmp,apps}
    cp -r tests/fixtures/{django,flask,plain,lua} "$run/apps/"
    port=$(free_port "${DEMO_PORT:-8080}")
    local params=/etc/nginx/uwsgi_params
    [ -e $params ] || params=/usr/share/nginx/uwsgi_params
    sed -e "s|@RUN@|$run|g" -e "s|@PORT@|$port|" -e "s|@PARAMS@|$params|" demo/nginx.conf > "$run/nginx.conf"
    export DEMO_DATA=$run/data
    (cd "$run/apps/django" &&
        "$root/.venv/bin/python" manage.py migrate -v 0 &&
        "$root/.venv/bin/python" manage.py collectstatic --noinput -v 0 &&
        DJANGO_SUPERUSER_PASSWORD=admin "$root/.venv/bin/python" manage.py createsuperuser --noinput --username admin --email admin@example.test)
    unset DEMO_DATA
    # Everything the vassals touch belongs to whoever runs the demo; nginx's workers run as nobody when that is root.
    chmod 755 "$run"
    cp demo/vassals/*.ini "$run/vassals/"
}

finish() {
    trap - EXIT INT TERM
    for pid in ${nginx:-} ${emperor:-}; do kill -INT "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    echo "demo: ended"
}

answer() { curl -s -o /dev/null -m 5 -w '%{http_code}' "http://127.0.0.1:$port$1" || true; }

wait_for() {
    for _ in $(seq 100); do
        [ "$(answer "$1")" = 200 ] && return
        kill -0 "$emperor" 2>/dev/null || break
        sleep 0.1
    done
    echo "demo: $1 does not answer; the last log lines:"
    tail -n 30 "$run/emperor.log"
    exit 1
}

prepare
trap finish EXIT
trap 'exit 0' INT TERM
"$binary" --emperor "$run/vassals" --vassal-set "run=$run" --vassal-set "apps=$run/apps" --vassal-set "venv=$root/.venv" \
    --emperor-stats "$run/emperor.stats" --logto "$run/emperor.log" &
emperor=$!
nginx -c "$run/nginx.conf" -e "$run/nginx.error.log" &
nginx=$!
for path in /admin/login/ /flask/ /plain /lua /static/admin/css/base.css; do wait_for "$path"; done

cat <<TEXT

Imperator demo: one emperor, four vassals, nginx in front.

  Django   http://127.0.0.1:$port/          admin: http://127.0.0.1:$port/admin/  (admin / admin)
  Flask    http://127.0.0.1:$port/flask/
  plain    http://127.0.0.1:$port/plain
  Lua      http://127.0.0.1:$port/lua       (edit demo/run/apps/lua/app.lua: the next request runs it)

Try, in another terminal:
  tail -f demo/run/emperor.log
  touch demo/run/vassals/plain.ini                       # that vassal reloads, no other does
  echo 'processes = 3' >> demo/run/vassals/flask.ini     # its new configuration is read
  echo 'raise SystemError("oops")' >> demo/run/apps/flask/app.py; touch demo/run/vassals/flask.ini
                                                         # broken: the old app goes on, the log says why
  rm demo/run/vassals/plain.ini                          # stops it (nginx: 502)
  cp demo/vassals/plain.ini demo/run/vassals/            # and starts it again

Ctrl-C ends everything.
TEXT
if [ -n "${DEMO_SECONDS:-}" ]; then sleep "$DEMO_SECONDS"; else wait "$emperor"; fi
