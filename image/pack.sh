#!/usr/bin/env bash
# Builds the image: target/image, an OCI layout, and target/image.tar, the same in one file. Prints its digest.
set -euo pipefail
cd "$(dirname "$0")/.."

# A tree with changes is no commit, and says so. The time of everything in the image is the commit's.
revision=$(git rev-parse HEAD)
[ -z "$(git status --porcelain --untracked-files=no)" ] || revision=$revision-dirty
created=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}

binary=$(image/build.sh)
target_dir=${CARGO_TARGET_DIR:-target}
# By itself: built together with other packages, it would get the compressor that they ask for.
cargo build --quiet --locked --package cache-registry-image
"$target_dir/debug/pack-image" "$binary" --layout "$target_dir/image" --archive "$target_dir/image.tar" \
  --revision "$revision" --created "$created"
