"""The service's settings, with their defaults and ranges; ``docker/evenbeat.example.toml`` shows each in its place."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MEGABYTE = 1 << 20
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
AE_TITLE = re.compile(r"[!-\[\]-~](?:[ -\[\]-~]{0,14}[!-\[\]-~])?")  # printable ASCII without backslash, up to 16


class SettingsError(ValueError):
    """A setting that the service cannot start with."""


def number(default: float, low: float, high: float) -> Any:  # noqa: ANN401 - as dataclasses.field is typed
    """A number with the range that it must lie in."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True)
class Dicom:
    """The DICOM node.

    Attributes:
        ae_title: ours; associations that call another are rejected.
        address: of the network interface to listen on.
        port: 0 takes any free one.
        calling_ae_titles: who may send.
        allow_any: whether anybody may send.
        max_pdu: largest PDU that we ask for [bytes].
        max_associations: open at the same time.
        timeout_s: of a silent peer.
    """

    ae_title: str = "EVENBEAT"
    address: str = "127.0.0.1"
    port: int = number(11112, 0, 65535)
    calling_ae_titles: tuple[str, ...] = ()
    allow_any: bool = False
    max_pdu: int = number(131_072, 4096, 16_777_216)
    max_associations: int = number(8, 1, 256)
    timeout_s: float = number(60, 1, 3600)

    def __post_init__(self) -> None:
        for title in (self.ae_title, *self.calling_ae_titles):
            _check_ae_title(title, "dicom")
        if not self.calling_ae_titles and not self.allow_any:
            raise SettingsError(
                "dicom.calling_ae_titles must name at least one sender, got none; list those that may send, or set "
                "dicom.allow_any = true"
            )


@dataclass(frozen=True)
class Tls:
    """Certificates. With a certificate the node speaks TLS only; with an authority, too, senders must show theirs.

    An authority alone is what destinations are checked by; the node speaks plain DICOM then.

    Attributes:
        certificate: PEM file, ours.
        key: its private key.
        authority: PEM file of those whose certificates we take.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise SettingsError("tls.certificate and tls.key must be given together; got one of them; give both")
        for path in (self.certificate, self.key, self.authority):
            if path is not None and not path.is_file():
                raise SettingsError(f"tls must name files that are there; got {path}; correct the path")


@dataclass(frozen=True)
class Limits:
    """What is taken at all.

    Attributes:
        instance_mb: one instance [MiB].
        study_mb: one study [MiB].
        instances_per_second: of one sender, who is slowed down to it; 0 for no limit.
        free_disk_mb: with less free, no instance is taken [MiB].
    """

    instance_mb: float = number(512, 0.001, 4096)
    study_mb: float = number(8192, 0.001, 1_048_576)
    instances_per_second: float = number(0, 0, 100_000)
    free_disk_mb: float = number(1024, 0, 10_485_760)


@dataclass(frozen=True)
class Reading:
    """When and how often a study is read.

    Attributes:
        quiet_s: a study is complete when nothing has come for so long [s].
        attempts: a study that ends the reader so often, with pauses that grow, is parked.
        timeout_s: longest time for one study [s].
    """

    quiet_s: float = number(60, 0.05, 86_400)
    attempts: int = number(3, 1, 100)
    timeout_s: float = number(600, 1, 86_400)


@dataclass(frozen=True)
class Delivery:
    """How results are sent.

    Attributes:
        first_retry_s: wait after the first failure, doubled after each [s].
        longest_retry_s: it is never longer [s].
        give_up_hours: after so long a delivery is parked.
        timeout_s: of a silent destination [s].
    """

    first_retry_s: float = number(15, 0.05, 86_400)
    longest_retry_s: float = number(900, 0.05, 86_400)
    give_up_hours: float = number(72, 0.0001, 8760)
    timeout_s: float = number(30, 1, 3600)


@dataclass(frozen=True)
class Destination:
    """A node that gets the results.

    Attributes:
        name: in logs and metrics.
        host: name or address.
        port: of its DICOM listener.
        ae_title: its.
        tls: whether it is called over TLS, with the certificates of ``[tls]``; must be said where there are any.
    """

    name: str
    host: str
    ae_title: str
    port: int = number(104, 1, 65535)
    tls: bool | None = None

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise SettingsError(
                f"destination.name must be letters, digits, - and _, at most 32, got {self.name!r}; rename it"
            )
        if not self.host:
            raise SettingsError(f"destination.host of {self.name} must not be empty; give a name or an address")
        _check_ae_title(self.ae_title, "destination")


@dataclass(frozen=True)
class Retention:
    """How long data stay after a study's end; `evenbeat erase` removes one at once.

    Attributes:
        inbox_hours: what was received.
        results_hours: what was found.
    """

    inbox_hours: float = number(168, 0, 87_600)
    results_hours: float = number(720, 0, 87_600)


@dataclass(frozen=True)
class Http:
    """Health and metrics.

    Attributes:
        address: of the network interface to listen on.
        port: 0 takes any free one.
    """

    address: str = "127.0.0.1"
    port: int = number(8080, 0, 65535)


@dataclass(frozen=True)
class Drift:
    """Comparison of what is read with what was audited.

    Attributes:
        window_days: studies of so many days are compared.
        min_studies: a vendor with fewer has no index; one with fewer audited studies is compared with all vendors'.
    """

    window_days: int = number(30, 1, 3650)
    min_studies: int = number(50, 1, 1_000_000)


@dataclass(frozen=True)
class Settings:
    """Everything.

    Attributes:
        state: folder that holds inbox, results and database; on one disk.
        destination: who gets the results.
    """

    state: Path
    dicom: Dicom
    tls: Tls = field(default_factory=Tls)
    limits: Limits = field(default_factory=Limits)
    reading: Reading = field(default_factory=Reading)
    delivery: Delivery = field(default_factory=Delivery)
    retention: Retention = field(default_factory=Retention)
    http: Http = field(default_factory=Http)
    drift: Drift = field(default_factory=Drift)
    destination: tuple[Destination, ...] = ()

    def __post_init__(self) -> None:
        names = [destination.name for destination in self.destination]
        if len(set(names)) != len(names):
            raise SettingsError(f"destination.name must differ, got {', '.join(names)}; rename one")
        self._check_tls()
        if self.destination and self.retention.results_hours < self.delivery.give_up_hours:
            raise SettingsError(
                f"retention.results_hours must be at least delivery.give_up_hours, {self.delivery.give_up_hours:g}, "
                f"got {self.retention.results_hours:g}; results would be erased before they are sent"
            )

    def _check_tls(self) -> None:
        """Nobody who names certificates shall speak in clear without knowing it."""
        unsaid = [one.name for one in self.destination if one.tls is None]
        if unsaid and (self.tls.certificate or self.tls.authority):
            raise SettingsError(
                f"destination.tls must be said where [tls] is set; {unsaid[0]} has none; write tls = true, or false to "
                "send results to it in clear"
            )
        if self.tls.authority and not self.tls.certificate and not any(one.tls for one in self.destination):
            raise SettingsError(
                f"tls.authority must come with tls.certificate and tls.key, or serve a destination with tls = true; "
                f"got {self.tls.authority} alone, with which nobody would be checked; give them, or leave it out"
            )


def _check_ae_title(title: str, where: str) -> None:
    if not AE_TITLE.fullmatch(title):
        raise SettingsError(
            f"AE titles of {where} must be 1 to 16 printable ASCII characters without backslash; got {title!r}; "
            "correct it"
        )
