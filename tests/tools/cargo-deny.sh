#!/usr/bin/env bash
# Installs the pinned cargo-deny into the cache outside the work tree, once, and prints its path.
set -euo pipefail

version=0.20.2
root=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/cargo-deny-$version
if [ ! -x "$root/bin/cargo-deny" ]; then
  echo "building cargo-deny $version (once, some minutes) ..." >&2
  cargo install --quiet --locked --version "$version" --root "$root" cargo-deny >&2
fi
echo "$root/bin/cargo-deny"
