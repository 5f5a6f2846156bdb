#!/usr/bin/env bash
# Inserts jobs and prints their results: bash example.sh queue.db
set -euo pipefail

db=${1:-queue.db}
batch="bash-$(date +%s)-$$"

# One connection for everything: data_version counts from where a connection began.
coproc SQLITE { sqlite3 -batch -bail -separator $'\t' -cmd '.timeout 5000' "$db"; }

# Runs SQL and prints what it gives; ends the program when there was an error.
ask() {
  local line
  printf '%s\n' "$1" "SELECT '-- end';" >&"${SQLITE[1]}"
  while IFS= read -r line <&"${SQLITE[0]}"; do
    [ "$line" = '-- end' ] && return
    printf '%s\n' "$line"
  done
  exit 1
}

# Text as an SQL literal.
quote() { printf "'%s'" "${1//\'/\'\'}"; }

ask 'PRAGMA wal_autocheckpoint = 0;' >/dev/null # only the daemon checkpoints

id=$(ask "INSERT INTO jobs (prompt, batch, max_tokens)
  VALUES ($(quote "What's up?"), '$batch', 100);
  SELECT last_insert_rowid();")
echo "inserted job $id"

inserts=
for city in Oslo Lima Hanoi; do
  inserts+="INSERT INTO jobs (prompt, batch, max_tokens)
    VALUES ($(quote "Say hello to $city"), '$batch', 100);"
done
ask "BEGIN IMMEDIATE; $inserts COMMIT;"
echo 'inserted 3 jobs in one transaction'

for _ in first second; do
  new=$(ask "INSERT INTO jobs (prompt, batch, key, max_tokens)
    VALUES ('Say hi', '$batch', '$batch-hi', 100);
    SELECT changes();")
  echo "inserted by key: $new new"
done

last=0 seen='' left=1
while [ "$left" -gt 0 ]; do
  version=$(ask 'PRAGMA data_version;')
  if [ "$version" = "$seen" ]; then
    sleep 0.1
    continue
  fi
  seen=$version
  # First what is left, then the results: none can slip in between.
  left=$(ask "SELECT queued + running FROM batches WHERE batch = '$batch';")
  while IFS=$'\t' read -r seq job state text; do
    echo "job $job $state: $text"
    last=$seq
  done < <(ask "SELECT seq, id, state, replace(coalesce(text, error), char(10), ' ') FROM results
    WHERE seq > $last AND batch = '$batch' ORDER BY seq;")
done
echo done
