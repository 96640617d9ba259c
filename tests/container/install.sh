#!/usr/bin/env bash
# What the container tests need beside Python: builders and runtimes, a base image's maker, DICOM peers, a database.
# As root, on Debian 12. Nothing is started: Debian would run Orthanc and PostgreSQL as soon as they are installed.
set -euo pipefail
tools=(buildah podman runc mmdebstrap storescu Orthanc strace nsenter curl)
packages=(buildah podman runc mmdebstrap dcmtk orthanc strace util-linux curl postgresql-15)
missing=
for tool in "${tools[@]}"; do command -v "$tool" >/dev/null || missing="$missing $tool"; done
[ -x /usr/lib/postgresql/15/bin/initdb ] || missing="$missing initdb"
[ -z "$missing" ] && exit 0
echo "installing${missing}" >&2
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' > "$policy"
  chmod +x "$policy"
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
