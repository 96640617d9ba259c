"""The node between a sender and a PACS: storescu -> container -> Orthanc, all on the container's own loopback."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.container.engine import ROOT, Done, Engine

pytestmark = pytest.mark.container

PEERS = ("storescu", "echoscu", "dsrdump", "Orthanc", "nsenter", "curl")
NODE, PACS, PACS_HTTP, HTTP = 11112, 14242, 18042, 8080
SR, PICTURE = "1.2.840.10008.5.1.4.1.1.88.34", "1.2.840.10008.5.1.4.1.1.7"  # Comprehensive 3D SR; Secondary Capture
CHANGED = {  # of docker/evenbeat.example.toml, line by line
    'host = "pacs.example.org"': 'host = "127.0.0.1"',
    "port = 104 ": f"port = {PACS} ",
    "quiet_s = 60 ": "quiet_s = 2 ",
    "first_retry_s = 15 ": "first_retry_s = 1 ",
}


class Site:
    """A container that serves, and a PACS beside it.

    Args:
        engine: that runs it.
        name: the container's id.
        folder: for the PACS.
    """

    def __init__(self, engine: Engine, name: str, folder: Path) -> None:
        self.engine, self.name, self.folder = engine, name, folder
        pid = engine.podman("inspect", "--format", "{{.State.Pid}}", name).stdout.strip()
        self._inside = ["nsenter", "--target", pid, "--net"]

    def inside(self, *command: str | Path) -> Done:
        """A command on the container's network."""
        return subprocess.run(
            [*self._inside, *command], capture_output=True, text=True, check=False, timeout=120, errors="replace"
        )

    @contextmanager
    def pacs(self) -> Iterator[None]:
        """Orthanc, empty."""
        store = self.folder / "orthanc"
        store.mkdir()
        settings = {
            "Name": "PACS", "StorageDirectory": str(store), "IndexDirectory": str(store), "Plugins": [],
            "HttpPort": PACS_HTTP, "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
            "DicomAet": "PACS", "DicomPort": PACS, "DicomCheckCalledAet": True,
            "DicomModalities": {"evenbeat": ["EVENBEAT", "127.0.0.1", NODE]}, "UnknownSopClassAccepted": False,
        }  # fmt: skip
        (self.folder / "orthanc.json").write_text(json.dumps(settings))
        with (self.folder / "orthanc.log").open("w") as log:
            process = subprocess.Popen([*self._inside, "Orthanc", self.folder / "orthanc.json"], stdout=log, stderr=log)
            try:
                _until(lambda: bool(self.get("system")), "Orthanc to answer")
                yield
            finally:
                process.terminate()
                process.wait(timeout=30)

    def get(self, path: str) -> Any:
        """What Orthanc answers; ``None`` if it does not."""
        found = self.inside("curl", "--fail", "--silent", f"http://127.0.0.1:{PACS_HTTP}/{path}")
        return json.loads(found.stdout) if found.returncode == 0 and found.stdout else None

    def page(self, path: str) -> str:
        """One of the node's own pages."""
        return self.inside("curl", "--fail", "--silent", f"http://127.0.0.1:{HTTP}/{path}").stdout

    def send(self, folder: Path, *, caller: str = "ROUTER", called: str = "EVENBEAT") -> Done:
        """C-STORE of a folder."""
        return self.inside("/usr/bin/storescu", "-v", "-aet", caller, "-aec", called, "+sd", "+r", "127.0.0.1",
                           str(NODE), folder)  # fmt: skip

    def results(self) -> dict[tuple[str, str], str]:
        """What Orthanc holds: study and SOP class -> its identifier."""
        tags = {name: self.get(f"instances/{name}/tags?simplify") for name in self.get("instances") or []}
        return {(each["StudyInstanceUID"], each["SOPClassUID"]): name for name, each in tags.items()}

    def log(self) -> str:
        """What the container has said."""
        done = self.engine.podman("logs", self.name)
        return done.stdout + done.stderr


def _until(holds: Callable[[], bool], what: str, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            pytest.fail(f"waited {seconds:.0f} s for {what}")
        time.sleep(0.5)


@pytest.fixture
def site(engine: Engine, image: str, tmp_path: Path) -> Iterator[Site]:
    """The node with the settings of the example file, ready."""
    absent = [tool for tool in PEERS if shutil.which(tool, path="/usr/bin:/usr/sbin:/bin:/sbin") is None]
    if absent:
        pytest.skip(f"{', '.join(absent)} not installed: run tests/container/install.sh")
    settings = (ROOT / "docker" / "evenbeat.example.toml").read_text()
    for line, other in CHANGED.items():
        assert settings.count(line) == 1
        settings = settings.replace(line, other)
    config, state = tmp_path / "evenbeat.toml", tmp_path / "state"
    config.write_text(settings)
    state.mkdir()
    shutil.chown(state, 10001, 10001)
    command = ("serve", "--config", "/etc/evenbeat/evenbeat.toml", "--package", "/opt/holoscan/models/student")
    volumes = {config: "/etc/evenbeat/evenbeat.toml:ro", state: "/var/lib/evenbeat"}
    name = engine.start(image, *command, volumes=volumes)
    try:
        found = Site(engine, name, tmp_path)
        try:
            _until(lambda: bool(found.page("readyz")), "the node to be ready")
        except pytest.fail.Exception:
            pytest.fail(found.log())
        yield found
    finally:
        engine.remove(name, seconds=1)


def _report_of(site: Site, study_uid: str) -> Path:
    """A study's report as the PACS gives it out."""
    path = site.folder / f"{study_uid}.dcm"
    name = site.results()[study_uid, SR]
    site.inside("curl", "--fail", "--silent", "-o", path, f"http://127.0.0.1:{PACS_HTTP}/instances/{name}/file")
    return path


def _check_results(site: Site, study_uids: Collection[str], *tolerance: str) -> None:
    """One report and one picture lie in the PACS of each study that was sent, and dcmtk reads the report."""
    wanted = {(uid, kind) for uid in study_uids for kind in (SR, PICTURE)}
    _until(lambda: set(site.results()) == wanted, "report and picture in the PACS", 90 * len(study_uids))
    assert len(site.get("instances")) == len(wanted)
    for uid in study_uids:
        command = ["/usr/bin/dsrdump", *tolerance, _report_of(site, uid)]
        dump = subprocess.run(command, capture_output=True, text=True, check=False)
        assert dump.returncode == 0, dump.stderr
        assert "Comprehensive 3D SR" in dump.stdout
        assert "Imaging Measurement Report" in dump.stdout
        assert "UNVERIFIED" in dump.stdout.upper()


def test_report_and_picture_of_a_study_that_was_sent_reach_the_pacs(site: Site, study: Path) -> None:
    """And the node says what it did, without a word about the patient; SIGTERM ends it well."""
    import pydicom

    uid = pydicom.dcmread(next(study.iterdir()), stop_before_pixels=True).StudyInstanceUID
    assert site.inside("/usr/bin/echoscu", "-aet", "ROUTER", "-aec", "EVENBEAT", "127.0.0.1", str(NODE)).returncode == 0
    with site.pacs():
        sent = site.send(study)
        assert "Store Failed" not in sent.stdout + sent.stderr
        _check_results(site, [uid])
        assert re.search(r"^evenbeat_studies_total\{.*\} 1\.0$", site.page("metrics"), flags=re.MULTILINE)
    erased = site.engine.podman("exec", site.name, "evenbeat", "erase", uid, "--state", "/var/lib/evenbeat")
    assert "removed 90 received files" in erased.stdout
    assert not list((site.folder / "state" / "results").rglob("result.json"))
    assert not list((site.folder / "state" / "inbox").rglob("*.dcm"))
    said = site.log() + site.page("metrics")
    assert "canary" not in said.lower()
    assert uid not in said
    began = time.monotonic()
    site.engine.podman("stop", "--time=20", site.name)
    assert time.monotonic() - began < 15
    assert site.engine.podman("inspect", "--format", "{{.State.ExitCode}}", site.name).stdout.strip() == "0"


def test_a_sender_that_is_not_on_the_list_or_calls_another_is_rejected(site: Site, study: Path) -> None:
    for caller, called in (("STRANGER", "EVENBEAT"), ("ROUTER", "OTHER")):
        done = site.send(study, caller=caller, called=called)
        assert done.returncode != 0
        assert "Rejected" in done.stdout + done.stderr
    assert not list((site.folder / "state" / "inbox").rglob("*.dcm"))


def test_results_wait_for_a_pacs_that_is_away_and_survive_a_killed_node(site: Site, study: Path) -> None:
    site.send(study)
    _until(lambda: any(site.folder.glob("state/results/*/*/result.json")), "the study to be read")
    site.engine.podman("kill", site.name)
    site.engine.podman("start", site.name)
    again = Site(site.engine, site.name, site.folder)
    with again.pacs():
        _until(lambda: {kind for _, kind in again.results()} == {SR, PICTURE}, "report and picture in the PACS")


@pytest.mark.real_data
def test_each_real_study_becomes_a_report_of_its_own(site: Site, real_data: Path) -> None:
    """Sunnybrook, GE 1.5 T. Its UIDs have parts with leading zeros; the report refers to the images as they are."""
    import pydicom

    folders = sorted(path for path in (real_data / "sunnybrook" / "dicoms").iterdir() if path.is_dir())
    assert len(folders) == 3
    with site.pacs():
        for folder in folders:
            sent = site.send(folder)
            assert "Store Failed" not in sent.stdout + sent.stderr
        images = [next(path for path in folder.rglob("*") if path.is_file()) for folder in folders]
        uids = {str(pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID) for path in images}
        assert len(uids) == 3
        _check_results(site, uids, "--invalid-item-value")
