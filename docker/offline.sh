#!/usr/bin/env bash
# One folder that a hospital without internet can load and verify: image, bill of materials, model card, documents,
# settings, checksums.
#   docker/offline.sh evenbeat:0.6.0 evenbeat-0.6.0-offline
# ENGINE is docker, or podman with its options. How it is loaded and verified stands in docs/hospital.md. Tell the
# hospital the two digests that are printed at the end by another way than the folder takes.
set -euo pipefail
image=${1:?name the image}
out=${2:?name the folder to write}
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
read -ra engine <<< "${ENGINE:-$(command -v docker >/dev/null && echo docker || echo podman)}"
mkdir "$out" "$out/docker"
cp "$here"/{compose.yaml,env.example,evenbeat.example.toml,smoke.sh} "$out/docker/"
container=$("${engine[@]}" create --network none "$image")
trap '"${engine[@]}" rm "$container" >/dev/null' EXIT
for file in opt/evenbeat/sbom.json opt/holoscan/docs/hospital.md opt/holoscan/docs/conformance.md opt/holoscan/docs/dicom.md \
  opt/holoscan/models/student/package.json opt/holoscan/models/student/MODEL_CARD.md; do
  "${engine[@]}" cp "$container:/$file" "$out/"
done
"${engine[@]}" save "$image" | gzip -1 > "$out/image.tar.gz"
(cd "$out" && find . -type f ! -name SHA256SUMS -print0 | sort -z | xargs -0 sha256sum > SHA256SUMS)
echo "package digest    $(sha256sum < "$out/package.json" | cut -d' ' -f1)"
echo "SHA256SUMS digest $(sha256sum < "$out/SHA256SUMS" | cut -d' ' -f1)"
