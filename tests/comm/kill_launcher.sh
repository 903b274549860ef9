#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kill_launcher.sh MPIRUN PROGRAM MODE: kills mpirun with SIGKILL; its ranks must be gone within 10 s.
set -u
output=$(mktemp)
trap 'rm -f "$output"' EXIT
"$1" --oversubscribe -n 2 "$2" "$3" > "$output" 2>&1 &
launcher=$!
for _ in $(seq 200); do
  pids=$(sed -n 's/^pid //p' "$output")
  [ "$(echo "$pids" | wc -w)" -eq 2 ] && break
  sleep 0.1
done
if [ "$(echo "$pids" | wc -w)" -ne 2 ]; then
  echo "the ranks did not start:"
  cat "$output"
  kill -9 $launcher
  exit 1
fi
sleep 0.5
kill -9 $launcher
for tenth in $(seq 100); do
  sleep 0.1
  alive=0
  for pid in $pids; do kill -0 "$pid" 2> /dev/null && alive=1; done
  if [ $alive -eq 0 ]; then
    echo "gone after ${tenth} tenths of a second"
    exit 0
  fi
done
echo "still alive: $pids"
kill -9 $pids
exit 1
