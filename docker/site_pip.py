"""Carry a site's own pip configuration (certificates, mirrors, folders of wheels) into a build, and not into the image.

Writes the given file as a pip.conf and prints one `--volume` argument per line for buildah or podman. Local folders are
mounted under names that say nothing of the site, since a mount leaves an empty folder behind in the image.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

KEPT = ("cert", "index-url", "extra-index-url", "find-links", "trusted-host", "no-index")


def site_configuration() -> dict[str, list[str]]:
    """What pip is told here, by key; its environment wins over its files."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    told = {}
    for line in sorted(listed, key=lambda text: text.startswith(":env:")):
        name, _, value = line.partition("=")
        key = name.rpartition(".")[2]
        if key in KEPT:
            told[key] = str(ast.literal_eval(value)).split()
    return told


def mounted(told: dict[str, list[str]]) -> tuple[dict[str, list[str]], dict[Path, str]]:
    """The configuration as the build sees it, and where each local file or folder is mounted."""
    mounts: dict[Path, str] = {}

    def seen(word: str) -> str:
        scheme = "file://" if word.startswith("file://") else ""
        path = word.removeprefix(scheme).rstrip("/")
        if not path.startswith("/"):
            return word
        root = Path(path.removesuffix("/simple"))  # an index keeps its files beside this folder
        place = str(root) if root.is_file() else mounts.get(root, f"/mnt/{len(mounts)}")
        if root.exists():
            mounts[root] = place
        return scheme + place + path.removeprefix(str(root))

    return {key: [seen(word) for word in words] for key, words in told.items()}, mounts


def main() -> None:
    """Write the file, print the arguments."""
    conf = Path(sys.argv[1])
    told, mounts = mounted(site_configuration())
    conf.write_text("[global]\n" + "".join(f"{key} = {' '.join(words)}\n" for key, words in told.items()))
    print(f"--volume={conf}:/etc/pip.conf:ro")
    for path, place in mounts.items():
        print(f"--volume={path}:{place}:ro")


if __name__ == "__main__":
    main()
