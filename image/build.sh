#!/usr/bin/env bash
# Builds the binary that the image holds, linked statically against musl, and prints its path. Progress goes to standard
# error.
#
# The same commit gives the same bytes in whatever folder it is built: the paths of this machine, which panics and the
# errors of C code would name, are replaced.
set -euo pipefail
cd "$(dirname "$0")/.."

target=x86_64-unknown-linux-musl
target_dir=${CARGO_TARGET_DIR:-$PWD/target}
cargo_home=${CARGO_HOME:-$HOME/.cargo}

rustup target list --installed | grep -qx "$target" || rustup target add "$target" >&2
command -v musl-gcc >/dev/null || { echo "the image's binary needs musl-gcc: Debian's musl-tools" >&2; exit 1; }

# The last prefix that fits is the one that is replaced, so a target directory within the work tree comes after it.
prefixes=("$cargo_home=/cargo" "$PWD=/src" "$target_dir=/target")
export CARGO_ENCODED_RUSTFLAGS
# The last one: what is relocated at the start takes bits in the place of 24 bytes each, a megabyte in all.
CARGO_ENCODED_RUSTFLAGS=$(printf -- '--remap-path-prefix=%s\x1f' "${prefixes[@]}")-Clink-arg=-Wl,-z,pack-relative-relocs
export CFLAGS_x86_64_unknown_linux_musl="${prefixes[*]/#/-ffile-prefix-map=}"

cargo build --locked --release --target "$target" --package cache-registry >&2
echo "$target_dir/$target/release/cache-registry"
