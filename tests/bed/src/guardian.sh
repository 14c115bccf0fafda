# Owns what a bed leaves on the machine, and takes it away when the bed closes standard input: on its way out, after a
# panic, or because it was killed. Run as: sh -c "$this" guardian FOLDER
#
# Prints the bed's number, from which its network's names and addresses are made. A line "keep" on standard input
# makes it wait for SIGTERM instead, so that a bed can outlive the program that set it up.
#
# What belongs to a bed is found by what it carries, never by a process id that was written down: processes have
# CACHE_REGISTRY_BED=FOLDER in their environment, or are in the process namespace of one that has; links, network
# namespaces and control groups begin with the bridge's name.
set -u
folder=$1

take_away() {
  of=$1
  tries=0
  while pids=$(belonging_to "$of") && [ -n "$pids" ] && [ $tries -lt 100 ]; do
    # shellcheck disable=SC2086 # a list of ids
    kill -KILL $pids 2>/dev/null
    tries=$((tries + 1))
    sleep 0.05
  done
  if bridge=$(cat "$of/bridge" 2>/dev/null) && [ -n "$bridge" ]; then
    for namespace in /run/netns/"$bridge"-*; do
      [ -e "$namespace" ] && ip netns del "${namespace##*/}"
    done
    for link in /sys/class/net/"$bridge"-* /sys/class/net/"$bridge"; do
      [ -e "$link" ] && ip link del "${link##*/}" 2>/dev/null
    done
    # Below one hierarchy, or below each of several.
    for group in /sys/fs/cgroup/"$bridge"-* /sys/fs/cgroup/*/"$bridge"-*; do
      [ -d "$group" ] && remove_group "$group"
    done
  fi
  # containerd has its mounts in a namespace of its own; this is for those that got out.
  awk -v inside="$of/" 'index($2, inside) == 1 { print $2 }' /proc/mounts | sort -r | while read -r mount; do
    umount -l "$mount"
  done
  rm -rf "$of"
}

# The last processes of a node's pods may be about to end.
remove_group() {
  tries=0
  until find "$1" -depth -type d -exec rmdir {} + 2>/dev/null || [ $tries -ge 100 ]; do
    tries=$((tries + 1))
    sleep 0.05
  done
}

belonging_to() {
  for file in $(grep -lzxF "CACHE_REGISTRY_BED=$1" /proc/[0-9]*/environ 2>/dev/null); do
    pid=${file#/proc/}
    echo "${pid%/environ}"
  done
}

trap '' HUP INT
exec 9>"$folder/lock"
flock -n 9 || { echo "$folder has a guardian already" >&2; exit 1; }

# What a bed left whose guardian was killed as well. A young one may be about to take its lock.
for other in "${folder%/*}"/cache-registry-bed.*; do
  [ -n "$(find "$other/lock" -mmin +1 2>/dev/null)" ] || continue
  (
    exec 9>>"$other/lock"
    flock -n 9 && take_away "$other"
  )
done

trap 'take_away "$folder"' EXIT
trap 'exit 0' TERM

# Making the bridge claims the number: it fails where another bed has it.
number=$(($$ % 250 + 1))
first=$number
until error=$(ip link add "crb$number" type bridge 2>&1); do
  number=$((number % 250 + 1))
  [ $number -ne $first ] || { echo "no bridge could be made: $error" >&2; exit 1; }
done
echo "crb$number" >"$folder/bridge"
echo $number

kept=
while read -r word; do
  [ "$word" = keep ] && kept=yes
done
while [ -n "$kept" ]; do
  CACHE_REGISTRY_BED=$folder sleep 3600 9>&- &
  wait $!
done
