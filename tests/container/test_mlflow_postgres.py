"""The training team's tracking server: the image of docker/mlflow.Dockerfile on Debian's PostgreSQL."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.engine import ANYWHERE, ROOT, Engine, shut_in

pytestmark = pytest.mark.container

IMAGE = "localhost/evenbeat-mlflow:test"
BINARIES = Path("/usr/lib/postgresql/15/bin")
VENDORS = ("Siemens", "Philips", "GE", "Canon")
STEPS = 10
CLIENT = f"""
import sys
from pathlib import Path
import mlflow
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("cine")
with mlflow.start_run(run_name=sys.argv[2]):
    for step in range({STEPS}):
        names = [f"validation/accuracy/vendor/{{vendor}}" for vendor in {VENDORS!r}]
        mlflow.log_metrics({{name: (step + place) / 100 for place, name in enumerate(names)}}, step=step)
    mlflow.log_text("by scanner", "per_group.json")
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _as_postgres(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["runuser", "-u", "postgres", "--", *command], capture_output=True, text=True, check=True)


@pytest.fixture(scope="module")
def database() -> Iterator[int]:
    """PostgreSQL on loopback with a database `mlflow`; its port."""
    if not (BINARIES / "initdb").exists():
        pytest.skip("PostgreSQL 15 not installed: run tests/container/install.sh")
    with tempfile.TemporaryDirectory(prefix="evenbeat-postgres-") as name:  # pytest's own folders are its user's alone
        Path(name).chmod(0o755)
        yield from _running(Path(name), _free_port())


def _running(folder: Path, port: int) -> Iterator[int]:
    password = folder / "password"
    password.write_text("for-tests")
    data = folder / "data"
    data.mkdir()
    subprocess.run(["chown", "postgres", data, password], check=True)
    _as_postgres(BINARIES / "initdb", "--auth=scram-sha-256", f"--pwfile={password}", "--username=mlflow", data)
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={data}"
    _as_postgres(BINARIES / "pg_ctl", "--wait", "-D", data, "-o", options, "-l", data / "log", "start")
    try:
        _query(port, "CREATE DATABASE mlflow", "postgres")
        yield port
    finally:
        _as_postgres(BINARIES / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def _query(port: int, sql: str, database: str = "mlflow") -> str:
    address = f"postgresql://mlflow:for-tests@127.0.0.1:{port}/{database}"
    return subprocess.run(
        [BINARIES / "psql", address, "-tAc", sql], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def server(engine: Engine, database: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server on loopback, and the folder of its artifacts."""
    engine.build(IMAGE, ROOT, FILE="docker/mlflow.Dockerfile")
    artifacts, port = tmp_path_factory.mktemp("artifacts"), _free_port()
    artifacts.chmod(0o777)
    address = f"postgresql+psycopg://mlflow:for-tests@127.0.0.1:{database}/mlflow"
    told = [*ANYWHERE, *shut_in("mlflow"), "--network=host", f"--env=MLFLOW_BACKEND_STORE_URI={address}"]
    command = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    mount = f"--volume={artifacts}:/var/lib/mlflow"
    name = engine.podman("run", "--detach", *told, mount, IMAGE, *command).stdout.strip()
    uri = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{uri}/health", engine, name)
        yield uri, artifacts
    finally:
        engine.remove(name, seconds=5)


def _wait_for(url: str, engine: Engine, name: str) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310  loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    logs = engine.podman("logs", name, check=False)
    pytest.fail(f"no MLflow at {url}: {logs.stdout[-2000:]}{logs.stderr[-2000:]}")


def test_two_trainings_at_once_keep_every_value_of_every_scanner(server: tuple[str, Path], database: int) -> None:
    """Counted in the database itself, not through MLflow."""
    uri, artifacts = server
    clients = [subprocess.Popen([sys.executable, "-c", CLIENT, uri, name]) for name in ("one", "other")]
    assert [client.wait(timeout=300) for client in clients] == [0, 0]
    assert _query(database, "SELECT count(*) FROM runs WHERE status = 'FINISHED'") == "2"
    rows = _query(database, "SELECT key, count(*), max(value) FROM metrics GROUP BY key ORDER BY key").splitlines()
    assert rows == [
        f"validation/accuracy/vendor/{vendor}|{2 * STEPS}|{(STEPS - 1 + VENDORS.index(vendor)) / 100}"
        for vendor in sorted(VENDORS)
    ]
    assert [path.read_text() for path in artifacts.rglob("per_group.json")] == ["by scanner", "by scanner"]
