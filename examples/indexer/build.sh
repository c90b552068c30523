#!/bin/sh
# The last steps of a build: run the benchmarks, then stop if an alert has fired in the last minutes.
# PROMETHEUS_URL, DATABASE_URL, LOG_DIR and PYTHON are set by who calls it.
set -eu
"$PYTHON" "$(dirname "$0")/benchmark.py" "$LOG_DIR"
exec deckwatch gate --prometheus "$PROMETHEUS_URL" --for 1m --allow-missing
