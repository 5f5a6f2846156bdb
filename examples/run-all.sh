#!/usr/bin/env bash
# Runs the examples against a daemon and the simulator: examples/run-all.sh [LANGUAGE...]
#
# What is missing is installed from Debian and npm first; `--installed` takes what is there, and
# fails where that is not enough. `--has LANGUAGE` only tells, by its exit code, whether it is.
# $CLAUDEQ is the path of the program; without it, the one that `cargo build` makes.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(bash python node go ruby php java perl rust)
jdbc=/usr/share/java/sqlite-jdbc.jar
gocode=/usr/share/gocode
# A Node that knows SQLite, once it is installed.
tools=$PWD/target/tools
PATH=$tools/node/node_modules/.bin:$PATH

# Whether everything is there that a language needs.
has() {
  case $1 in
    bash) sqlite3 --version ;;
    python) python3 -c 'import sqlite3' ;;
    node) node -e 'require("node:sqlite")' ;;
    go) gcc --version && go version && { [ -d "$gocode/src/github.com/mattn/go-sqlite3" ] ||
      (cd examples/go && go mod download); } ;;
    ruby) ruby -e 'require "sqlite3"' ;;
    php) php -r 'exit(in_array("sqlite", PDO::getAvailableDrivers()) ? 0 : 1);' ;;
    java) [ -e "$jdbc" ] && java --list-modules | grep jdk.compiler ;;
    perl) perl -MDBD::SQLite -e 1 ;;
    rust) gcc --version && cargo --version ;;
  esac >/dev/null 2>&1
}

# Debian's packages for it.
packages() {
  case $1 in
    bash) echo sqlite3 ;;
    python) echo python3 ;;
    node) command -v npm >/dev/null || echo npm ;;
    go) echo golang-go golang-github-mattn-go-sqlite3-dev gcc libc6-dev ;;
    ruby) echo ruby ruby-sqlite3 ;;
    php) echo php-cli php-sqlite3 ;;
    java) command -v javac >/dev/null || echo default-jdk-headless
      echo libxerial-sqlite-jdbc-java ;;
    perl) echo libdbd-sqlite3-perl ;;
    rust) echo gcc libc6-dev ;; # and rustup, as claudeq itself
  esac
}

install() {
  local language debian=() sudo
  for language in "$@"; do
    # shellcheck disable=SC2207 # names of packages, one word each
    has "$language" || debian+=($(packages "$language"))
  done
  if [ "${#debian[@]}" -gt 0 ]; then
    echo "installing ${debian[*]}"
    sudo=$([ "$(id -u)" = 0 ] || echo sudo)
    $sudo apt-get update -qq
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      "${debian[@]}" >/dev/null
  fi
  if [[ " $* " == *" node "* ]] && ! has node; then
    echo "installing node@24 from npm"
    npm install --prefix "$tools/node" --no-audit --no-fund --loglevel error node@24
    hash -r
  fi
}

# Runs one, in its folder.
# shellcheck disable=SC2317 # it is exported
run() {
  cd "examples/$1"
  case $1 in
    bash) bash example.sh "$db" ;;
    python) python3 example.py "$db" ;;
    node) node example.mjs "$db" ;;
    go) if [ -d "$gocode/src/github.com/mattn/go-sqlite3" ]; then
      GO111MODULE=off GOPATH=$gocode go run example.go "$db"
    else
      go run . "$db"
    fi ;;
    ruby) ruby example.rb "$db" ;;
    php) php example.php "$db" ;;
    java) java -cp "$jdbc" Example.java "$db" ;;
    perl) perl example.pl "$db" ;;
    rust) cargo run --quiet -- "$db" ;;
  esac
}

# What each of them says, but for the numbers of jobs and the texts of answers.
wanted='inserted job N
inserted 3 jobs in one transaction
inserted by key: 1 new
inserted by key: 0 new
job N succeeded: TEXT
job N succeeded: TEXT
job N succeeded: TEXT
job N succeeded: TEXT
job N succeeded: TEXT
done'

check() {
  local start=$SECONDS said
  if ! has "$1"; then
    echo "FAILED  $1: what it needs is not here, see examples/README.md"
    return 1
  fi
  # A daemon that died would let it wait for ever.
  export -f run
  if timeout 300 bash -euc 'run "$1"' run "$1" >"$work/$1.out" 2>"$work/$1.err" </dev/null &&
    said=$(sed -E 's/job [0-9]+/job N/; s/(succeeded): .+/\1: TEXT/' "$work/$1.out") &&
    [ "$said" = "$wanted" ]; then
    echo "ok      $1 ($((SECONDS - start)) s)"
  else
    echo "FAILED  $1"
    sed 's/^/  /' "$work/$1.out" "$work/$1.err"
    return 1
  fi
}

# Starts simulator and daemon in a directory of their own.
start() {
  work=$(mktemp -d)
  pids=()
  trap 'kill "${pids[@]}" 2>/dev/null || true; wait; rm -rf "$work"' EXIT
  export db=$work/queue.db jdbc gocode
  unset CLAUDEQ_DB
  "$claudeq" sim --listen 127.0.0.1:0 --speed 20 >"$work/sim.url" 2>"$work/sim.log" &
  pids+=($!)
  until [ -s "$work/sim.url" ]; do
    kill -0 "${pids[0]}" || { cat "$work/sim.log" >&2; exit 1; }
    sleep 0.1
  done
  (cd "$work" && "$claudeq" init >/dev/null)
  ANTHROPIC_BASE_URL=$(cat "$work/sim.url") ANTHROPIC_API_KEY=not-a-key \
    "$claudeq" --config "$work/daemon.toml" daemon 2>"$work/daemon.log" &
  pids+=($!)
}

may_install=yes
case ${1-} in
  --has) has "$2"; exit ;;
  --installed) may_install=no; shift ;;
esac
[ $# -gt 0 ] || set -- "${all[@]}"
for language in "$@"; do
  [[ " ${all[*]} " == *" $language "* ]] || { echo "no $language here: ${all[*]}" >&2; exit 2; }
done
[ "$may_install" = no ] || install "$@"
if [ -z "${CLAUDEQ-}" ]; then
  cargo build --quiet
fi
claudeq=$(realpath "${CLAUDEQ:-target/debug/claudeq}")
start
failed=0
for language in "$@"; do
  check "$language" || failed=1
done
exit "$failed"
