#!/usr/bin/env bash
# Builds the Go programs of the test bed that go.mod pins, once per machine and lock file, and prints the folder
# that holds them. Progress goes to standard error, so `bin=$(tests/tools/build.sh)` works.
#
# The folder is $CACHE_REGISTRY_CACHE (default ~/.cache/cache-registry)/tools-<hash of the lock files>; a build that
# was interrupted goes on where it stopped. The first build takes 10 to 20 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")"

command -v go >/dev/null || { echo "the test bed needs Go 1.26 or later: see the README, \"What the commands need\"" >&2; exit 1; }

kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
version=k8s.io/component-base/version
minor=${kubernetes#v1.} minor=${minor%%.*}
# Without these the API server introduces itself as v0.0.0-master.
ldflags="-s -w -X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=$minor"

key=$(cat go.mod go.sum build.sh | sha256sum | cut -c1-12)
bin=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/tools-$key
mkdir -p "$bin"

# Two at once (a demo beside a test run) would build everything twice.
exec 9>"$bin/.lock"
flock 9

# Small ones first: an error in the setup shows at once.
tools=(
  etcd=go.etcd.io/etcd/server/v3
  registry=github.com/distribution/distribution/v3/cmd/registry
  crane=github.com/google/go-containerregistry/cmd/crane
  containerd=github.com/containerd/containerd/v2/cmd/containerd
  kubectl=k8s.io/kubernetes/cmd/kubectl
  kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager
  kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver
)
n=0
for tool in "${tools[@]}"; do
  n=$((n + 1)) name=${tool%%=*}
  [ -x "$bin/$name" ] && continue
  echo "building $name ($n of ${#tools[@]}) ..." >&2
  started=$SECONDS
  CGO_ENABLED=0 go build -trimpath -ldflags "$ldflags" -o "$bin/$name.part" "${tool#*=}" >&2
  mv "$bin/$name.part" "$bin/$name"
  echo "built $name in $((SECONDS - started)) s" >&2
done
echo "$bin"
