#!/usr/bin/env bash
# Builds the policy: build.sh OUT.wasm. Its toolchain comes from PyPI, as requirements.txt pins it, once per machine and
# pin, into $CACHE_REGISTRY_CACHE (default ~/.cache/cache-registry)/skip-python-<hash of the pin>. Progress goes to
# standard error.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 OUT.wasm" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")"

python3 -m pip --version >/dev/null 2>&1 || {
  echo "this needs Python 3.10 or later with pip; on Debian: apt-get install --no-install-recommends python3 python3-pip" >&2
  exit 1
}

tools=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/skip-python-$(sha256sum requirements.txt | cut -c1-12)
mkdir -p "$tools"
# Two at once would install into each other's folder.
exec 9>"$tools/.lock"
flock 9
if [ ! -e "$tools/.complete" ]; then
  echo "installing componentize-py (50 MB) ..." >&2
  # A folder, where a virtual environment would need a package that Debian's Python does not bring.
  python3 -m pip install --quiet --disable-pip-version-check --root-user-action ignore --upgrade --target "$tools" \
    --requirement requirements.txt >&2
  touch "$tools/.complete"
fi
flock -u 9

echo "building $(basename "$PWD") ..." >&2
started=$SECONDS
mkdir -p "$(dirname "$out")"
PYTHONPATH=$tools "$tools/bin/componentize-py" --quiet --wit-path ../../../wit --world filtering \
  componentize policy --output "$out" >&2
echo "built $(basename "$PWD") in $((SECONDS - started)) s: $(stat -c %s "$out") bytes" >&2
