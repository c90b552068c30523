#!/bin/sh
# Installs BullMQ below the folder $1 with npm, for its test. Idempotent. Where npm is missing or cannot install it, the
# test is skipped.
set -eu
folder=$1/bullmq
version=5.81.5
[ ! -d "$folder/node_modules/bullmq" ] || exit 0
if ! command -v npm >/dev/null 2>&1; then
    echo "BullMQ is left out of the tests: npm is not installed." >&2
    exit 0
fi
# Without retries: on a machine that is offline, npm would try for minutes.
npm install --prefix "$folder" --silent --no-save --no-package-lock --no-audit --no-fund --ignore-scripts \
    --fetch-retries=0 "bullmq@$version" >/dev/null 2>&1 ||
    echo "BullMQ is left out of the tests: npm could not install it." >&2
