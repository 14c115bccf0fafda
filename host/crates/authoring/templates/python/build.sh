#!/bin/sh
# Makes policy.wasm. The first time, componentize-py is fetched from PyPI into .tools.
set -eu
cd "$(dirname "$0")"

python3 -m pip --version >/dev/null || {
  echo "this needs Python 3.10 or later with pip; on Debian: apt-get install python3-pip" >&2
  exit 1
}
if ! cmp -s requirements.txt .tools/complete; then
  python3 -m pip install --quiet --upgrade --target .tools --requirement requirements.txt
  cp requirements.txt .tools/complete
fi
PYTHONPATH=.tools .tools/bin/componentize-py --quiet --wit-path wit --world filtering \
  componentize policy --output policy.wasm
