#!/bin/sh
# Installs the real programs that the tests and benchmarks run against, where they are missing.
# Idempotent. Nothing of what is installed is left running: the tests start their own, on free ports.
set -eu

# command:package
WANTED="
promtool:prometheus
prometheus:prometheus
prometheus-node-exporter:prometheus-node-exporter
prometheus-process-exporter:prometheus-process-exporter
dbus-daemon:dbus
chromium:chromium
redis-server:redis-server
prometheus-redis-exporter:prometheus-redis-exporter
/usr/lib/postgresql/*/bin/initdb:postgresql
prometheus-postgres-exporter:prometheus-postgres-exporter
pgbouncer:pgbouncer
prometheus-alertmanager:prometheus-alertmanager
prometheus-blackbox-exporter:prometheus-blackbox-exporter
rabbitmq-server:rabbitmq-server
victoria-metrics:victoria-metrics
systemd-analyze:systemd
/lib/systemd/systemd-journal-remote:systemd-journal-remote
/usr/sbin/mariadbd:mariadb-server-core
"

missing=""
commands=""
for pair in $WANTED; do
    command=${pair%%:*}
    package=${pair##*:}
    # A path may hold a version: the shell fills it in, unless there is none.
    if ! command -v $command >/dev/null 2>&1; then
        commands="$commands $command"
        case " $missing " in *" $package "*) ;; *) missing="$missing $package" ;; esac
    fi
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "The tests need these programs on the PATH, and this is no Debian or Ubuntu to install them on:$commands" >&2
    echo "Install Prometheus (with promtool), node_exporter (as prometheus-node-exporter), process-exporter" >&2
    echo "(as prometheus-process-exporter), dbus, Chromium, Redis, PostgreSQL with contrib, PgBouncer, redis_exporter," >&2
    echo "postgres_exporter, blackbox_exporter, Alertmanager (each as prometheus-...), RabbitMQ, MariaDB, victoria-metrics, systemd-analyze and systemd-journal-remote with your system's package manager." >&2
    exit 1
fi
as_root=""
if [ "$(id -u)" != 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "The tests need these packages; as root: apt-get install -y --no-install-recommends$missing" >&2
        exit 1
    fi
    as_root="sudo"
fi

echo "Installing for the tests (Debian packages):$missing"
# Packages that carry a service must not start it: policy-rc.d forbids that while they are installed.
policy=/usr/sbin/policy-rc.d
made_policy=""
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
    $as_root chmod 755 "$policy"
    made_policy=yes
fi
clean_up() { [ -z "$made_policy" ] || $as_root rm -f "$policy"; }
trap clean_up EXIT
$as_root apt-get update -qq
# shellcheck disable=SC2086  the list is meant to be split
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $missing >/dev/null
