"""The image calls nobody. onnxruntime's wheel does by default, within a minute of its import."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.container.engine import Engine

WATCHED_S = 60
PYTHON = "/opt/evenbeat/python/bin/python"
READ = """
import sys, time
from pipeline.cli import main
code = main(["predict", "--in", "/var/holoscan/input", "--out", "/var/holoscan/output"])
time.sleep(float(sys.argv[1]))
sys.exit(code)
"""
IMPORT = "import onnxruntime, sys, time; time.sleep(float(sys.argv[1]))"
# To this machine itself anything may go but a question for a name: without a resolver glibc asks 127.0.0.1.
ABROAD = re.compile(
    r"(?:connect|sendto|sendmsg)\(.*sa_family=AF_INET6?, sin6?_port=htons\((\d+)\)"
    r"(?:(?<=\(53\))|(?![^}]*(?:inet_addr\(\"127\.0\.0\.1\"\)|\"::1\")))"
)
WRITTEN = re.compile(r'openat\([^,]*, "([^"]*)", [^)]*(?:O_WRONLY|O_RDWR|O_CREAT)[^)]*\) = \d')


def _start(
    root: Path, trace: Path, code: str, study: Path, out: Path, environment: Sequence[str]
) -> subprocess.Popen[str]:
    """Run Python of the image in its files, in a network with no way out, and write down what it asks of the kernel."""
    inner = f"""
mount --bind {study} {root}/var/holoscan/input && mount --bind {out} {root}/var/holoscan/output &&
mount -t proc proc {root}/proc && mount --bind /dev {root}/dev &&
exec chroot {root} /usr/bin/env -i HOME=/tmp EVENBEAT_PACKAGE=/opt/holoscan/models/student {" ".join(environment)} \
  {PYTHON} -c '{code}' {WATCHED_S}
"""
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,openat", "-s", "256", "-o", trace,
               "unshare", "--net", "--mount", "sh", "-c", inner]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _call(address: str, port: int = 443, *, family: str = "AF_INET", payload: str = "") -> str:
    """A line of strace."""
    if family == "AF_INET6":
        place = f'sin6_port=htons({port}), sin6_flowinfo=htonl(0), inet_pton(AF_INET6, "{address}", &sin6_addr)'
    else:
        place = f'sin_port=htons({port}), sin_addr=inet_addr("{address}")'
    name, given = ("sendto", f'"{payload}", 34, MSG_NOSIGNAL, ') if payload else ("connect", "")
    return f"1234  {name}(7, {given}{{sa_family={family}, {place}}}, 16) = -1 ENETUNREACH (Network is unreachable)\n"


@pytest.mark.parametrize(
    ("line", "abroad"),
    [
        (_call("20.50.1.2"), True),
        (_call("2603:1030::1", family="AF_INET6"), True),
        (_call("127.0.0.1"), False),
        (_call("::1", family="AF_INET6"), False),
        (_call("127.0.0.11"), True),  # Docker's resolver, which asks others
        (_call("127.0.0.1", 53), True),
        (_call("20.50.1.2", payload="a) b"), True),
        (_call("20.50.1.2", payload="127.0.0.1"), True),
        (_call("20.50.1.2") + _call("127.0.0.1"), True),
        ('1234  connect(7, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = 0\n', False),
        ('1234  openat(AT_FDCWD, "/AF_INET", O_RDONLY) = 3\n', False),
    ],
)
def test_only_a_call_of_another_machine_counts_as_one(line: str, abroad: bool) -> None:
    assert bool(ABROAD.search(line)) is abroad


@pytest.mark.container
def test_a_minute_after_reading_a_study_nobody_was_called_and_nothing_written_elsewhere(
    engine: Engine, image: str, study: Path, out: Path, tmp_path: Path
) -> None:
    """The same watch sees onnxruntime alone, without the image's variable, call or keep what it would send."""
    root = Path(engine.podman("image", "mount", image).stdout.strip())
    try:
        other = tmp_path / "other"
        other.mkdir()
        told = engine.podman("image", "inspect", "--format", '{{join .Config.Env "\\n"}}', image).stdout.split()
        ours = _start(root, tmp_path / "ours", READ, study, out, told)
        bare = _start(root, tmp_path / "bare", IMPORT, study, other, [])
        said = [process.communicate(timeout=WATCHED_S + 60)[0] for process in (ours, bare)]
    finally:
        engine.podman("image", "umount", image)
    assert ours.returncode == 0, said[0]
    assert (out / "result.json").is_file()
    ours_trace, bare_trace = ((tmp_path / name).read_text() for name in ("ours", "bare"))
    assert ABROAD.findall(ours_trace) == []
    written = {path for path in WRITTEN.findall(ours_trace) if not path.startswith(("/dev/", "/proc/"))}
    assert {path for path in written if not path.startswith("/var/holoscan/output")} == set()
    assert written
    assert ABROAD.search(bare_trace) or "onnxruntime.db" in bare_trace, said[1]
