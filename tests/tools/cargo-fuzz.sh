#!/usr/bin/env bash
# Installs the pinned cargo-fuzz into the cache outside the work tree, once, and prints its path.
set -euo pipefail

version=0.13.2
root=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/cargo-fuzz-$version
if [ ! -x "$root/bin/cargo-fuzz" ]; then
  echo "building cargo-fuzz $version (once, a minute) ..." >&2
  cargo install --quiet --locked --version "$version" --root "$root" cargo-fuzz >&2
fi
echo "$root/bin/cargo-fuzz"
