#!/usr/bin/env bash
# Prints how many compilers may run at once: one a processor, and no more than 2 GiB of free memory each allows.
set -euo pipefail
jobs=$(nproc)
free_kib=$(awk '$1 == "MemAvailable:" {print $2}' /proc/meminfo 2>/dev/null || true)
limit=/sys/fs/cgroup/memory.max used=/sys/fs/cgroup/memory.current # a container's own limit
if [ -r $limit ] && [ -r $used ] && [ "$(cat $limit)" != max ]; then
  container_kib=$((($(cat $limit) - $(cat $used)) / 1024))
  [ "${free_kib:-0}" -gt 0 ] && [ "$free_kib" -lt $container_kib ] || free_kib=$container_kib
fi
if [ -n "${free_kib:-}" ]; then
  by_memory=$((free_kib / (2 * 1024 * 1024)))
  [ "$by_memory" -ge "$jobs" ] || jobs=$by_memory
fi
[ "$jobs" -ge 1 ] || jobs=1
echo "$jobs"
