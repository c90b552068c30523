#!/bin/sh
# Installs npm packages for the tests: install-npm.sh FOLDER PACKAGE@VERSION... Idempotent. Where npm is missing or cannot
# install them, the tests that need them are skipped.
set -eu
folder=$1
shift
[ ! -e "$folder/.installed" ] || exit 0
if ! command -v npm >/dev/null 2>&1; then
    echo "$* is left out of the tests: npm is not installed." >&2
    exit 0
fi
# Without retries: on a machine that is offline, npm would try for minutes.
if npm install --prefix "$folder" --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
    --fetch-retries=0 "$@" >/dev/null 2>&1; then
    touch "$folder/.installed"
else
    echo "$* is left out of the tests: npm could not install it." >&2
fi
