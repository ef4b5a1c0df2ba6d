#!/usr/bin/env bash
# Computes a grid with GNU parallel, on this machine or over ssh on several that share a file system.
#   reproduce/cluster/parallel.sh GRID STORE N [HOSTS]
# cuts the grid into N parts and computes JOBS at a time on each machine; HOSTS as GNU parallel takes them: a,b,user@c, and
# ":" for this machine. Rerunning the same command continues. Exit code: that of the first part that failed; the other
# parts are computed all the same. docs/cluster.md explains it. Environment:
#   DEVICE           cpu, or cuda: every job at a time on a GPU of its own [cpu]
#   JOBS             jobs at a time on each machine [1; cuda: the GPUs of this machine]
#   THREADS          of a job [a machine's cores by JOBS]
#   MODELS, DATA     directories; unset: as the grid says
#   PTQ              the program [build/ptq]
#   RETRIES          of a part that ran out of memory or was killed [2], after RETRY_SECONDS [30]
set -euo pipefail
die() { echo "parallel.sh: $2" >&2 && exit "$1"; }

(($# == 3 || $# == 4)) || die 2 "usage: reproduce/cluster/parallel.sh GRID STORE N [HOSTS]"
grid=$1 store=$2 shards=$3 hosts=${4:-:}
[[ $shards =~ ^[1-9][0-9]*$ ]] || die 2 "N is '$shards': a number of parts is needed"
[[ -r $grid ]] || die 66 "$grid: no such grid file"
command -v parallel >/dev/null || die 66 "GNU parallel not found (Debian: parallel)"
here=$(cd "$(dirname "$0")" && pwd)
if [[ ${DEVICE:-} == cuda && -z ${JOBS:-} ]]; then
  JOBS=$(nvidia-smi --list-gpus | wc -l) || die 69 "nvidia-smi finds no GPU; set JOBS to the GPUs of a machine"
fi
export JOBS=${JOBS:-1}

joblog=$(mktemp)
trap 'rm -f "$joblog"' EXIT
environment=()
for name in DEVICE JOBS THREADS MODELS DATA PTQ RETRIES RETRY_SECONDS OMP_WAIT_POLICY; do
  [[ -z ${!name:-} ]] || environment+=(--env "$name")
done
seq "$shards" |
  parallel --sshlogin "$hosts" --filter-hosts --jobs "$JOBS" --workdir "$PWD" "${environment[@]}" \
    --joblog "$joblog" \
    --halt never --termseq TERM,60000,KILL,1000 --line-buffer --tagstring "{}/$shards" \
    "$here/one-shard" "$grid" "$store" "{}/$shards" &
child=$!
# The first TERM lets GNU parallel wait for running jobs, the second makes it pass the signal on: ptq then stops at a
# safe boundary.
stopped=false
# shellcheck disable=SC2317
stop() {
  stopped=true
  kill -TERM "$child" 2>/dev/null || return 0
  sleep 1
  kill -TERM "$child" 2>/dev/null || true
}
trap stop TERM INT HUP
code=0
wait "$child" || code=$?
while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done

# Columns of the log: Seq Host Starttime JobRuntime Send Receive Exitval Signal Command.
failed=$(awk -F '\t' 'NR > 1 && ($7 || $8) { print $7 ? $7 : 128 + $8, $NF }' "$joblog")
finished=$(awk 'NR > 1' "$joblog" | wc -l)
if $stopped; then die 75 "stopped; run the command again to go on"; fi
if [[ -n $failed ]]; then
  echo "$failed" | awk '{ print "parallel.sh: part " $NF " failed with exit " $1 }' >&2
  exit "${failed%% *}"
fi
((finished == shards)) || die 70 "GNU parallel finished $finished of $shards parts (exit $code)"
echo "parallel.sh: $shards of $shards parts are done"
