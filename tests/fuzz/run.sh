#!/usr/bin/env bash
# Runs each fuzz target for SECONDS_EACH seconds (20 unless set), from the corpus that is checked in. With RUNS_EACH it is
# that many inputs instead, and the same ones each time: what passed once does not fail for somebody who changed nothing.
# What is found new goes below target/fuzz; an input that breaks something goes to artifacts/ and fails the run.
set -euo pipefail
cd "$(dirname "$0")/../.."

fuzz=$(tests/tools/cargo-fuzz.sh)
# Without a sanitizer the compiler of the project will do: nothing here is unsafe, and what is looked for are panics,
# broken promises, hangs and memory.
options=(--fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none)
if [ -n "${RUNS_EACH:-}" ]; then long=(-runs="$RUNS_EACH" -seed=1); else long=(-max_total_time="${SECONDS_EACH:-20}"); fi
"$fuzz" build "${options[@]}" >&2
for target in reference settings configmap pod component; do
  found=target/fuzz/corpus/$target
  if [ -n "${RUNS_EACH:-}" ]; then found=$(mktemp --directory); fi
  mkdir -p "$found"
  "$fuzz" run "${options[@]}" "$target" "$found" "tests/fuzz/corpus/$target" -- \
    "${long[@]}" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -verbosity=0 -print_final_stats=1
done
