#!/bin/sh
# Installs an npm package for the tests: install-npm.sh FOLDER PACKAGE VERSION. Idempotent. Where npm is missing or cannot
# install it, the tests that need the package are skipped.
set -eu
folder=$1 package=$2 version=$3
[ ! -d "$folder/node_modules/$package" ] || exit 0
if ! command -v npm >/dev/null 2>&1; then
    echo "$package is left out of the tests: npm is not installed." >&2
    exit 0
fi
# Without retries: on a machine that is offline, npm would try for minutes.
npm install --prefix "$folder" --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
    --fetch-retries=0 "$package@$version" >/dev/null 2>&1 ||
    echo "$package is left out of the tests: npm could not install it." >&2
