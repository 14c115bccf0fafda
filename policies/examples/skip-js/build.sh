#!/usr/bin/env bash
# Builds the policy: build.sh OUT.wasm. Its toolchain comes from npm, as package-lock.json pins it, once per machine and
# lock file, into $CACHE_REGISTRY_CACHE (default ~/.cache/cache-registry)/skip-js-<hash of the lock file>. Progress goes
# to standard error.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 OUT.wasm" >&2; exit 2; }
out=$(realpath -m "$1")
cd "$(dirname "$0")"

# componentize-js 0.23 needs preview2-shim and does not say so: that is why package.json names both.
for tool in node npm; do
  command -v $tool >/dev/null || {
    echo "this needs Node.js 20 or later with npm; on Debian: apt-get install --no-install-recommends nodejs npm" >&2
    exit 1
  }
done

tools=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/skip-js-$(sha256sum package-lock.json | cut -c1-12)
mkdir -p "$tools"
# Two at once would install into each other's folder.
exec 9>"$tools/.lock"
flock 9
if [ ! -e "$tools/.complete" ]; then
  echo "installing componentize-js and what it needs (400 MB) ..." >&2
  cp package.json package-lock.json "$tools"
  npm ci --prefix "$tools" --ignore-scripts --no-audit --no-fund >&2
  touch "$tools/.complete"
fi
flock -u 9

echo "building $(basename "$PWD") ..." >&2
started=$SECONDS
mkdir -p "$(dirname "$out")"
# With these off, the component imports nothing of WASI: the policy has no use for any of it.
"$tools/node_modules/.bin/componentize-js" policy.js --wit ../../../wit --world-name filtering \
  --disable stdio random clocks http fetch-event --out "$out" >&2
echo "built $(basename "$PWD") in $((SECONDS - started)) s: $(stat -c %s "$out") bytes" >&2
