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
helm=$(go -C helm list -m -f '{{.Version}}' helm.sh/helm/v3)
minor=${kubernetes#v1.} minor=${minor%%.*}
# What release builds are told of themselves: the API server is v0.0.0-master otherwise, and helm renders charts for
# Kubernetes 1.20.
set_by_link=(
  k8s.io/component-base/version.gitVersion="$kubernetes"
  k8s.io/component-base/version.gitMajor=1 k8s.io/component-base/version.gitMinor="$minor"
  helm.sh/helm/v3/internal/version.version="$helm"
  helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1 helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor="$minor"
  helm.sh/helm/v3/pkg/lint/rules.k8sVersionMajor=1 helm.sh/helm/v3/pkg/lint/rules.k8sVersionMinor="$minor"
)
ldflags="-s -w ${set_by_link[*]/#/-X }"

key=$(cat build.sh {.,cert-manager,collector,coredns,helm,oras,versitygw}/go.{mod,sum} {cert-manager,collector,coredns}/main.go | sha256sum | cut -c1-12)
bin=${CACHE_REGISTRY_CACHE:-$HOME/.cache/cache-registry}/tools-$key
mkdir -p "$bin"

# Two at once (a demo beside a test run) would build everything twice.
exec 9>"$bin/.lock"
flock 9

# NAME=[FOLDER:]PACKAGE, the folder being that of a go.mod of its own. Small ones first: an error in the setup shows at
# once.
tools=(
  etcd=go.etcd.io/etcd/server/v3
  registry=github.com/distribution/distribution/v3/cmd/registry
  crane=github.com/google/go-containerregistry/cmd/crane
  oras=oras:oras.land/oras/cmd/oras
  cert-manager=cert-manager:.
  collector=collector:.
  versitygw=versitygw:github.com/versity/versitygw/cmd/versitygw
  containerd-shim-runc-v2=github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2
  containerd=github.com/containerd/containerd/v2/cmd/containerd
  coredns=coredns:.
  helm=helm:helm.sh/helm/v3/cmd/helm
  kubectl=k8s.io/kubernetes/cmd/kubectl
  kube-proxy=k8s.io/kubernetes/cmd/kube-proxy
  kube-scheduler=k8s.io/kubernetes/cmd/kube-scheduler
  kubelet=k8s.io/kubernetes/cmd/kubelet
  kube-controller-manager=k8s.io/kubernetes/cmd/kube-controller-manager
  kube-apiserver=k8s.io/kubernetes/cmd/kube-apiserver
)
n=0
for tool in "${tools[@]}"; do
  n=$((n + 1)) name=${tool%%=*} package=${tool#*=} module=.
  case $package in *:*) module=${package%%:*} package=${package#*:} ;; esac
  [ -x "$bin/$name" ] && continue
  echo "building $name ($n of ${#tools[@]}) ..." >&2
  started=$SECONDS
  CGO_ENABLED=0 go -C "$module" build -trimpath -ldflags "$ldflags" -o "$bin/$name.part" "$package" >&2
  mv "$bin/$name.part" "$bin/$name"
  echo "built $name in $((SECONDS - started)) s" >&2
done

# What cert-manager would have applied.
if [ ! -f "$bin/cert-manager-crds.yaml" ]; then
  go -C cert-manager mod download github.com/cert-manager/cert-manager >&2
  for crd in "$(go -C cert-manager list -m -f '{{.Dir}}' github.com/cert-manager/cert-manager)"/deploy/crds/*.yaml; do
    printf -- '---\n' && cat "$crd"
  done >"$bin/cert-manager-crds.yaml.part"
  mv "$bin/cert-manager-crds.yaml.part" "$bin/cert-manager-crds.yaml"
fi
echo "$bin"
