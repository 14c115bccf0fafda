# The commands of the project. Each installs what it needs first: see tests/tools.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c

.PHONY: help demo cluster test drill bench fuzz image lint toolchain packages tools

help: ## Show the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

demo: toolchain packages ## The main job, on this machine: a pod's image is cached, and pulled with the upstream gone (KEEP=1 leaves it running)
	@tools=$$(tests/tools/build.sh); \
	cargo build --locked --package cache-registry --package cache-registry-upstream --package cache-registry-bed; \
	CACHE_REGISTRY_TOOLS=$$tools target/debug/demo $(if $(KEEP),--keep)

cluster: toolchain packages ## A Kubernetes cluster of two nodes on this machine, until Ctrl-C (KEEP=1 leaves it running)
	@tools=$$(tests/tools/build.sh); \
	cargo build --locked --package cache-registry --package cache-registry-upstream --package cache-registry-bed; \
	CACHE_REGISTRY_TOOLS=$$tools target/debug/cluster $(if $(KEEP),--keep)

test: toolchain packages ## Every test, from nothing: unit, integration, end to end
	@tools=$$(tests/tools/build.sh); export CACHE_REGISTRY_TOOLS=$$tools; \
	cargo build --locked --package cache-registry --package cache-registry-upstream; \
	cargo test --locked --workspace --exclude cache-registry-e2e; \
	cargo test --locked --package cache-registry-e2e -- --test-threads=1

drill: toolchain packages ## Faults on a cluster, one after the other: pulls tried, failed, slowest (ONLY=words, KILLS=20 at random)
	@tools=$$(tests/tools/build.sh); \
	cargo build --locked --package cache-registry --package cache-registry-upstream --package cache-registry-drill; \
	CACHE_REGISTRY_TOOLS=$$tools target/debug/drill $(if $(ONLY),--only '$(ONLY)') $(if $(KILLS),--random-kills $(KILLS))

bench: toolchain packages ## The tables of docs/performance.md, side by side with the baselines
	@tools=$$(tests/tools/build.sh); export CACHE_REGISTRY_TOOLS=$$tools; \
	cargo build --locked --release --package cache-registry --package cache-registry-upstream --package cache-registry-bench; \
	target/release/bench

image: toolchain ## The container image, without a container engine: target/image (OCI layout) and target/image.tar
	@tests/tools/packages.sh cmake musl-tools
	@image/pack.sh

fuzz: toolchain ## Each fuzz target for a short while (SECONDS_EACH=20, or RUNS_EACH), from the corpus that is checked in
	@tests/fuzz/run.sh

lint: toolchain ## Formatting, clippy, licences and advisories, generated files
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets -- -D warnings
	@RUSTDOCFLAGS=-Dwarnings cargo doc --locked --workspace --no-deps --document-private-items
	@deny=$$(tests/tools/cargo-deny.sh); $$deny check bans licenses sources

toolchain: # What rust-toolchain.toml names; quick where it is there
	@rustup show active-toolchain >/dev/null 2>&1 && rustup target list --installed | grep -q wasm32-unknown-unknown || rustup toolchain install

tools: packages # The programs of the test bed, in Go; the first time takes 10 to 20 minutes
	@tests/tools/build.sh

packages: # The Debian packages of the test bed
	@tests/tools/packages.sh
