# The first process of a node: the kernel ends everything that runs on the node when this ends. Run within a mount and
# a process namespace of the node's own, as: sh -c "$this" init FOLDER
#
# kubelet, containerd and the CNI plugins keep things at paths that no flag sets. On a node those are folders of its
# own, as they are on a machine of its own, and what a killed program leaves there goes with the node.
set -eu
folder=$1

# /proc is still the machine's here, and so is the id. "$0" of a shell is not in the way: the shell itself opens this.
read -r id _ </proc/self/stat

# Mounts that a kubelet makes have to reach the pods that are told to see them.
mount --make-rshared /
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
for inside in lib log; do
  mkdir -p "$folder/$inside"
  mount --bind "$folder/$inside" "/var/$inside"
done

echo "$id" >"$folder/init.part"
mv "$folder/init.part" "$folder/init"

# Whatever loses its parent becomes a child of this, and is waited for.
while :; do
  sleep 3600 &
  wait $!
done
