#!/bin/sh
# Installs libraries for the tests in an environment of their own, since their dependencies conflict with ours:
# install-python.sh FOLDER PYTHONS REQUIREMENT... Idempotent. PYTHONS are interpreters to try, separated by spaces. Where
# that fails, FOLDER is removed and the tests that need it are skipped.
set -eu
folder=$1 pythons=$2
shift 2
[ ! -e "$folder/.installed" ] || exit 0
unset PIP_CONSTRAINT # holds the versions of our own environment
for python in $pythons; do
    # Version managers put commands on the path that only print an error.
    "$python" -c '' 2>/dev/null || continue
    if "$python" -m venv --clear "$folder" &&
        "$folder/bin/pip" install --quiet --disable-pip-version-check "$@" >/dev/null 2>&1; then
        touch "$folder/.installed"
        exit 0
    fi
done
rm -rf "$folder"
echo "$* is left out of the tests: none of these could install it: $pythons." >&2
