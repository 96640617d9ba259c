#!/usr/bin/env bash
# Build the image from the checkout.
#   docker/build.sh                                   evenbeat:VERSION, with the package in ./student
#   docker/build.sh evenbeat:bare --target runtime    without a package; what follows the name goes to the builder
# From the environment: BUILDER (docker, podman or buildah; the first that is there), BASE_IMAGE, PACKAGE (a folder at
# the root whose name begins with student), FILE (docker/Dockerfile). buildah and podman also take a site's own pip
# configuration into the build, never into the image; docker has no such mount and builds on the network it finds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=${1:-evenbeat:$version}
shift || true
builder=${BUILDER:-$(for name in docker podman buildah; do command -v "$name" >/dev/null && echo "$name" && break; done)}
arguments=(-f "${FILE:-docker/Dockerfile}" -t "$tag" --build-arg "VERSION=$version"
  --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)")
[ -n "${BASE_IMAGE:-}" ] && arguments+=(--build-arg "BASE_IMAGE=$BASE_IMAGE")
[ -n "${PACKAGE:-}" ] && arguments+=(--build-arg "PACKAGE=$PACKAGE")
case $builder in
  docker) exec docker build "${arguments[@]}" "$@" . ;;
  podman | buildah)
    conf=$(mktemp)
    chmod 644 "$conf"
    trap 'rm -f "$conf"' EXIT
    mapfile -t mounts < <(python3 docker/site_pip.py "$conf")
    # The docker format keeps the health check; equal input gives equal layers through the timestamp.
    "$builder" build --layers --format docker --isolation chroot --network host --timestamp 0 \
      "${mounts[@]}" "${arguments[@]}" "$@" .
    ;;
  *) echo "BUILDER must be docker, podman or buildah, got '$builder'; install one of them" >&2; exit 2 ;;
esac
