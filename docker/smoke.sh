#!/usr/bin/env bash
# Does the image hold what it promises, on this machine, with this engine? Ends with 0 and `all held` if so.
#   docker/smoke.sh                              builds evenbeat:VERSION first, with the package in ./student
#   IMAGE=evenbeat:0.6.0 docker/smoke.sh         takes an image that is there
#   IMAGE=… STUDY=/data/one-study docker/smoke.sh     reads a study, too
# ENGINE is docker, or podman with its options; RUN_OPTIONS are for its `run`. BASE=debian builds on Debian's own Python,
# for places without a registry (as root, with mmdebstrap and podman).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -ra engine <<< "${ENGINE:-$(command -v docker >/dev/null && echo docker || echo podman)}"
read -ra run_options <<< "${RUN_OPTIONS:-}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if [ -z "${IMAGE:-}" ]; then
  IMAGE=evenbeat:$(sed -n 's/^version = "\(.*\)"/\1/p' "$here/../pyproject.toml")
  if [ "${BASE:-}" = debian ]; then
    "$here/base_stand_in.sh" "$work/base.tar"
    "${engine[@]}" import --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' \
      "$work/base.tar" docker.io/library/python:3.11-slim-bookworm
  fi
  BUILDER=${engine[0]} "$here/build.sh" "$IMAGE"
fi

shut_in=(--rm --read-only --tmpfs /tmp:rw,noexec,nosuid,nodev,size=64m --network none --cap-drop ALL
  --security-opt no-new-privileges --pids-limit 64 --memory 512m --memory-swap 512m)
run() { "${engine[@]}" run "${shut_in[@]}" "${run_options[@]}" "$@"; }
inside() { run --entrypoint sh "$IMAGE" -c "$1"; }
held() { echo "held: $1"; }
failed() { echo "FAILED: $1" >&2; exit 1; }

[ "$(inside 'id -u')" = 10001 ] && held "runs as user 10001" || failed "does not run as user 10001"
inside 'touch /x || touch /etc/x || touch /opt/evenbeat/x' 2>/dev/null && failed "the root can be written" || held "the root is read-only"
[ "$(inside 'ls /sys/class/net')" = lo ] && held "no network" || failed "there is a network"
inside "grep -q '^CapBnd:[[:space:]]*0*\$' /proc/self/status" && held "no capability" || failed "capabilities are left"
inside "grep -q '^NoNewPrivs:[[:space:]]*1' /proc/self/status" && held "no new privileges" || failed "privileges can be gained"
[ -z "$(inside 'find / -xdev -type f -perm /6000 2>/dev/null')" ] && held "no set-user-id file" || failed "set-user-id files"
(cd "$work" && run --entrypoint python "$IMAGE" -c 'b"1" * (600 << 20)') >/dev/null 2>&1 && failed "memory has no limit" || held "memory ends at 512 MiB"
run "$IMAGE" selftest && held "the package works" || failed "the package does not work"
run --env EVENBEAT_PACKAGE_DIGEST="$(printf '%064d' 0)" "$IMAGE" selftest 2>/dev/null && failed "a package of another digest is used" ||
  held "a package of another digest is refused"

if [ -n "${STUDY:-}" ]; then
  mkdir "$work/out"
  chmod 777 "$work/out"
  run -v "$STUDY:/input:ro" -v "$work/out:/output" "$IMAGE"
  [ -f "$work/out/result.json" ] && held "a study has its result" || failed "no result.json"
fi
echo "all held"
