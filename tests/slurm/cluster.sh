#!/usr/bin/env bash
# A Slurm cluster of this one machine, for the tests: no accounting, no cgroups, no root paths.
#
#   cluster.sh install     Debian's packages, as root; fails where there is no apt
#   cluster.sh start DIR   writes DIR/slurm.conf, starts the daemons, waits until sinfo says idle
#   cluster.sh stop DIR    stops what `start` started
#
# Afterwards `export SLURM_CONF=DIR/slurm.conf` and Slurm's commands work.
set -euo pipefail

install() {
  command -v slurmctld > /dev/null && command -v munged > /dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -qy --no-install-recommends slurm-wlm munge
}

start() {
  local dir=$1 host
  host=$(hostname -s)
  mkdir -p "$dir"/{state,spool}
  chmod 755 "$dir"
  head -c 1024 /dev/urandom > "$dir/munge.key"
  chmod 600 "$dir/munge.key"
  cat > "$dir/slurm.conf" << CONF
ClusterName=test
SlurmctldHost=$host
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket,cred_expire=5
CryptoType=crypto/munge
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$((20000 + RANDOM % 5000))
SlurmdPort=$((25000 + RANDOM % 5000))
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName=$host CPUs=$(getconf _NPROCESSORS_ONLN) RealMemory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
PartitionName=test Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
  export SLURM_CONF=$dir/slurm.conf
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" \
    --pid-file="$dir/munged.pid" --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
  slurmctld -c
  slurmd
  for _ in $(seq 60); do
    [ "$(sinfo --noheader --format=%T 2> /dev/null)" = idle ] && return
    sleep 0.5
  done
  tail -n 20 "$dir"/*.log >&2
  stop "$dir"
  return 1
}

stop() {
  local dir=$1 name
  SLURM_CONF=$dir/slurm.conf scancel --user="$(id -un)" --signal=KILL --full 2> /dev/null || true
  for name in slurmd slurmctld munged; do
    [ -f "$dir/$name.pid" ] && kill "$(cat "$dir/$name.pid")" 2> /dev/null || true
  done
}

"$@"
