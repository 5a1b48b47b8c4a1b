#!/bin/bash
# Commits to a repository until it is killed: commits.sh REPOSITORY MANIFEST. Each commit's name goes into the manifest,
# which is not on the mount, once `git commit` has ended; every sixth time everything is packed anew. So does what goes wrong.
set -euo pipefail
trap 'echo "failed: line $LINENO" >> "$2"' ERR
export GIT_AUTHOR_NAME=t GIT_AUTHOR_EMAIL=t@example.org GIT_COMMITTER_NAME=t GIT_COMMITTER_EMAIL=t@example.org
git init -q "$1"
cd "$1"
for ((number = 0; ; number++)); do
  mkdir -p "directory-$((number % 7))"
  head -c $((1000 + number * 37 % 40000)) /dev/urandom > "directory-$((number % 7))/file-$number"
  echo "$number" >> log
  git add .
  git commit -q -m "number $number"
  git rev-parse HEAD >> "$2"
  if ((number % 6 == 5)); then git gc -q; fi
done
