#!/usr/bin/env bash
# Installs the Debian packages of the test bed that are missing, or those that its arguments name. Silent where none is;
# progress goes to standard error.
# The bed starts what it needs by itself, on addresses of its own; services that a package starts are not used.
set -euo pipefail

packages=(
  busybox-static containerd containernetworking-plugins curl docker-registry gcc iproute2 iptables libc6-dev nginx procps
  prometheus runc skopeo util-linux wrk
)
[ $# -eq 0 ] || packages=("$@")

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

give_up() {
  echo "this needs these Debian packages: ${missing[*]}" >&2
  echo "$1" >&2
  echo "by hand: apt-get update && apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
}
command -v apt-get >/dev/null || give_up "there is no apt-get here: install what they are called on this system"
[ "$(id -u)" -eq 0 ] || give_up "this is not root, who alone may install them"

echo "installing ${missing[*]} ..." >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=120 "$@" >"$log" 2>&1
}
install() {
  apt install -y --no-install-recommends "${missing[@]}"
}
# The lists that are here may do, and updating them takes longer than installing.
install || { apt update && install; } || { tail -n 20 "$log" >&2; give_up "apt-get failed; the end of what it said is above"; }
echo "installed ${#missing[@]} packages" >&2
