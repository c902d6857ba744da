#!/usr/bin/env bash
# A PostgreSQL server for the tests, in a folder of its own, on 127.0.0.1.
#
#   server.sh install             Debian's package, as root; fails where there is no apt
#   server.sh start DIR PORT      makes a cluster in DIR; the user is aecli, the password secret
#   server.sh stop DIR
set -euo pipefail
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin)

install() {
  command -v initdb > /dev/null && return
  [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q
  apt-get install -qy --no-install-recommends postgresql
}

# PostgreSQL refuses to run as root.
as_user() {
  if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi
}

start() {
  local dir=$1 port=$2
  if [ "$(id -u)" = 0 ]; then chown postgres "$dir"; fi
  echo secret > "$dir/password"
  chmod 644 "$dir/password"
  as_user initdb -D "$dir/data" --username=aecli --pwfile="$dir/password" \
    --auth=scram-sha-256 --no-sync > "$dir/initdb.log"
  as_user pg_ctl -D "$dir/data" -l "$dir/data/server.log" -w start \
    -o "-h 127.0.0.1 -p $port -k '$dir' -c fsync=off" > /dev/null
}

stop() {
  as_user pg_ctl -D "$1/data" -m immediate stop > /dev/null
}

"$@"
