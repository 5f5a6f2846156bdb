#!/usr/bin/env bash
# Builds SQLite's shell as producers with an old SQLite have it: 3.15 (2016) and 3.31 (2020).
# The sources lie in packages of npm; needs npm and a C compiler. target/tools/ keeps what was built.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$PWD/target/tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build VERSION PACKAGE
build() {
  [ -x "$tools/sqlite3-$1" ] && return
  echo "building SQLite $1"
  mkdir -p "$tools" "$work/$1"
  cd "$work/$1"
  npm pack --silent "$2" >/dev/null
  tar -xzf ./*.tgz
  tar -xzf package/deps/sqlite-autoconf-*.tar.gz --strip-components=1
  cc -O1 -w -DSQLITE_THREADSAFE=0 -DSQLITE_OMIT_LOAD_EXTENSION -o sqlite3 shell.c sqlite3.c
  mv sqlite3 "$tools/sqlite3-$1"
}

build 3.15.0 sqlite3@3.1.13
build 3.31.1 sqlite3@4.2.0
