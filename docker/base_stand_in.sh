#!/usr/bin/env bash
# Write a file system like the official python:3.11-slim-bookworm, from Debian packages alone, for places without a
# registry: Debian's Python 3.11 under the official image's names. What passes on it is not proven on the real base.
#   docker/base_stand_in.sh base.tar     # as root; needs mmdebstrap
set -euo pipefail
out=${1:?name the tar file to write}
links='for name in python python3; do ln -s /usr/bin/python3 "$1/usr/local/bin/$name"; done'
# The official image keeps its pip here; ours must be rid of it, so that the stand-in must have it.
pip='mkdir -p "$1/usr/local/lib/python3.11/site-packages" && python3 -m zipfile -e "$1"/usr/share/python-wheels/pip-*.whl "$1/usr/local/lib/python3.11/site-packages"'
mmdebstrap --quiet --format=tar --variant=minbase --mode=root --include=ca-certificates,python3,python3-venv \
  --aptopt='Acquire::Languages "none"' --dpkgopt=force-unsafe-io \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --customize-hook="$links" --customize-hook="$pip" \
  bookworm "$out.part"
mv "$out.part" "$out"
