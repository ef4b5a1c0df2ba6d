# Daemons for tests/cluster/run, which sources this file, in its directory $work, on ports of their own. Of an installed
# Slurm or sshd only the programs are used; they run as the user who starts them, and so do the jobs.
# shellcheck shell=bash disable=SC2154

slurm_daemons=(munged slurmctld slurmd)

# A Slurm of one node with two CPUs, with its own munge.
start_slurm() {
  local slurm=$work/slurm user node port daemon
  user=$(id -un)
  node=$(hostname -s)
  port=$((20000 + RANDOM % 10000))
  mkdir -p "$slurm"/{state,spool,munge}
  chmod 700 "$slurm"/munge
  head -c 1024 /dev/urandom >"$slurm/munge/key"
  chmod 400 "$slurm/munge/key"
  cat >"$slurm/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
# A requeued job waits for as long as credentials live: 120 s, were it not for this; less than 5 is not taken.
AuthInfo=socket=$slurm/munge/socket,cred_expire=5
StateSaveLocation=$slurm/state
SlurmdSpoolDir=$slurm/spool
SlurmctldPidFile=$slurm/slurmctld.pid
SlurmdPidFile=$slurm/slurmd.pid
SlurmctldLogFile=$slurm/slurmctld.log
SlurmdLogFile=$slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$slurm/jobs.log
MpiDefault=none
SwitchType=switch/none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,defer_batch
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
KillWait=20
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=$node Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=$node MaxTime=INFINITE State=UP PriorityTier=10
CONF
  export SLURM_CONF=$slurm/slurm.conf
  munged --force --key-file="$slurm/munge/key" --socket="$slurm/munge/socket" --pid-file="$slurm/munged.pid" \
    --log-file="$slurm/munge/log" --seed-file="$slurm/munge/seed" --num-threads=2
  slurmctld -c
  slurmd
  for ((i = 0; i < 60; i++)); do
    [[ $(sinfo --noheader --partition=low --format=%T 2>/dev/null) == idle ]] && return
    sleep 0.5
  done
  for daemon in "${slurm_daemons[@]}"; do tail -n 5 "$slurm/$daemon.log" >&2 || true; done
  echo "run: Slurm does not come up" >&2
  return 1
}

stop_slurm() {
  local daemon pid
  scancel --user="$(id -un)" 2>/dev/null || true
  sleep 2
  for daemon in slurmd slurmctld munged; do
    pid=$(cat "$work/slurm/$daemon.pid" 2>/dev/null) || continue
    kill "$pid" 2>/dev/null || true
  done
}

# An sshd for this user alone. Two names for this machine are two hosts, as far as GNU parallel can tell, a third name is
# one that does not answer.
start_sshd() {
  local ssh=$work/sshd port
  port=$((30000 + RANDOM % 10000))
  mkdir "$ssh"
  ssh-keygen -q -t ed25519 -N '' -f "$ssh/host"
  ssh-keygen -q -t ed25519 -N '' -f "$ssh/user"
  if ((EUID == 0)); then mkdir -p /run/sshd; fi
  cat >"$ssh/sshd_config" <<CONF
Port $port
ListenAddress 127.0.0.1
HostKey $ssh/host
PidFile $ssh/pid
AuthorizedKeysFile $ssh/user.pub
StrictModes no
UsePAM no
CONF
  cat >"$ssh/config" <<CONF
Host node-a node-b
  Port $port
Host node-down
  Port 9
Host *
  HostName 127.0.0.1
  IdentityFile $ssh/user
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  LogLevel ERROR
CONF
  "$(command -v sshd)" -f "$ssh/sshd_config" -E "$ssh/log"
  export PARALLEL_SSH="ssh -F $ssh/config"
}

stop_sshd() {
  [[ ! -f $work/sshd/pid ]] || kill "$(<"$work/sshd/pid")" 2>/dev/null || true
}
