#!/usr/bin/env bash
# Runs each fuzz target for SECONDS_EACH seconds (20 unless set; 0 is the corpus alone), from the corpus that is checked
# in. What is found new goes below target/fuzz; an input that breaks something goes to artifacts/ and fails the run.
set -euo pipefail
cd "$(dirname "$0")/../.."

fuzz=$(tests/tools/cargo-fuzz.sh)
# Without a sanitizer the compiler of the project will do: nothing here is unsafe, and what is looked for are panics,
# broken promises, hangs and memory.
options=(--fuzz-dir tests/fuzz --target-dir target/fuzz --sanitizer none)
seconds=${SECONDS_EACH:-20}
if [ "$seconds" -gt 0 ]; then long=-max_total_time=$seconds; else long=-runs=0; fi
"$fuzz" build "${options[@]}" >&2
for target in reference settings configmap pod component; do
  mkdir -p "target/fuzz/corpus/$target"
  "$fuzz" run "${options[@]}" "$target" "target/fuzz/corpus/$target" "tests/fuzz/corpus/$target" -- \
    "$long" -timeout=10 -rss_limit_mb=2048 -max_len=4096 -verbosity=0 -print_final_stats=1
done
