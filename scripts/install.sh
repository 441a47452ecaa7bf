#!/bin/sh
# Makes the virtual environment DIR with the packages of LOCK and this package in editable form. Called by make.
# Usage: [PYTHON=python3.12] sh scripts/install.sh DIR LOCK
set -eu
cd "$(dirname "$0")/.."
venv=$1
lock=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

fail() {
    echo "error: $1" >&2
    exit 1
}

usable() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' >/dev/null 2>&1; }

if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    python=
    for candidate in ${PYTHON:-python3.11 python3}; do
        if usable "$candidate"; then python=$candidate && break; fi
    done
    if [ -z "$python" ]; then
        fail "Python 3.11 to 3.14 is needed, and ${PYTHON:-python3.11 or python3} is not: install python3.11 or set PYTHON=/path/to/python"
    fi
    "$python" -c 'import ensurepip, venv' 2>/dev/null || fail "$python has no venv module: install it (Debian, Ubuntu: python3-venv)"
    "$python" -m venv "$venv" || fail "cannot make the virtual environment $venv (see above)"
fi

echo "installing the pinned packages into $venv: 6 GB with the CUDA libraries of PyTorch, some minutes the first time" >&2
"$venv/bin/python" -m pip install -qq --require-hashes -r "$lock" ||
    fail "the packages could not be installed (see above); the same command tries again"
"$venv/bin/python" -m pip install -qq --no-deps --no-build-isolation -e . ||
    fail "skiptune itself could not be installed (see above)"
