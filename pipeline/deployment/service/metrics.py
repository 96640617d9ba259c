"""What Prometheus may see: counts and times by closed lists of names, nothing of a study."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from pipeline.deployment.service.drift import Stability
from pipeline.deployment.service.reading import Summary

SECONDS = (0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 600)
Labels = tuple[str, ...]


class Metrics:
    """Counters since the start, and gauges that are asked for when somebody looks."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # they would double the page
        self.registry = CollectorRegistry()
        self._studies = Counter(
            "evenbeat_studies",
            "Studies that came to an end, by how: read, refused, parked",
            ["status", "verdict", "vendor", "code"],
            registry=self.registry,
        )
        self._instances = Counter(
            "evenbeat_instances", "Instances that were offered, by what became of them", ["result"],
            registry=self.registry,
        )  # fmt: skip
        self._bytes = Counter("evenbeat_received_bytes", "Bytes that were kept", registry=self.registry)
        self._rejected = Counter(
            "evenbeat_associations_rejected", "Associations that were rejected, by reason", ["code"],
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "evenbeat_reading_seconds", "Time for one study", ["status"], buckets=SECONDS, registry=self.registry
        )
        self._sent = Counter(
            "evenbeat_delivery_attempts", "Attempts to send results", ["destination", "result"], registry=self.registry
        )

    def finished(self, summary: Summary, seconds: float) -> None:
        """A study was read or refused."""
        self._studies.labels(summary.status, summary.verdict, summary.vendor, summary.code).inc()
        self._seconds.labels(summary.status).observe(seconds)

    def parked(self, code: str) -> None:
        """A study is read no more."""
        self._studies.labels("parked", "", "", code).inc()

    def instance(self, result: str, size: int = 0) -> None:
        """An instance was kept, had been there, or was refused with a code."""
        self._instances.labels(result).inc()
        self._bytes.inc(size)

    def rejected(self, code: str) -> None:
        """An association was rejected."""
        self._rejected.labels(code).inc()

    def sent(self, destination: str, result: str) -> None:
        """A delivery was tried."""
        self._sent.labels(destination, result).inc()

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)


class Gauges(Collector):
    """What is the case at the moment.

    Args:
        studies: by state.
        deliveries: by destination and state.
        figures: name of a figure -> how to get it.
        drift: comparisons with the audit.
        package: name, version and digest of the student.
    """

    def __init__(
        self,
        *,
        studies: Callable[[], Mapping[str, int]],
        deliveries: Callable[[], Mapping[tuple[str, str], int]],
        figures: Mapping[str, tuple[str, Callable[[], float]]],
        drift: Callable[[], Sequence[Stability]],
        package: Labels,
    ) -> None:
        self._studies, self._deliveries, self._figures = studies, deliveries, figures
        self._drift, self._package = drift, package

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the registry need not look when this is registered."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The figures of this moment, without those that cannot be had: counters are asked for just then."""
        parts: list[Callable[[], list[GaugeMetricFamily]]] = [
            self._studies_now,
            self._deliveries_now,
            *(partial(self._figure, *entry) for entry in self._figures.items()),
            self._drift_now,
        ]
        for part in parts:
            with suppress(Exception):  # a locked database, say
                yield from part()
        yield _family("evenbeat_package", "The student", ["name", "version", "digest"], [(self._package, 1.0)])

    def _studies_now(self) -> list[GaugeMetricFamily]:
        found = [((state,), n) for state, n in self._studies().items()]
        return [_family("evenbeat_studies_now", "Studies by state", ["state"], found)]

    def _deliveries_now(self) -> list[GaugeMetricFamily]:
        found = self._deliveries().items()
        return [_family("evenbeat_deliveries_now", "Deliveries by state", ["destination", "state"], found)]

    def _figure(self, name: str, figure: tuple[str, Callable[[], float]]) -> list[GaugeMetricFamily]:
        meaning, value = figure
        return [_family(name, meaning, [], [((), value())])]

    def _drift_now(self) -> list[GaugeMetricFamily]:
        found, labels = self._drift(), ["vendor", "measure"]
        counts = [((s.vendor, s.measure), s.n) for s in found]
        indices = [((s.vendor, s.measure, s.reference), s.index) for s in found if s.index is not None]
        return [
            _family("evenbeat_drift_studies", "Readings in the window of comparison", labels, counts),
            _family(
                "evenbeat_drift_psi",
                "Population stability index against the audited studies of the vendor that the reference names, or all",
                [*labels, "reference"],
                indices,
            ),
        ]


def _family(
    name: str, meaning: str, labels: Sequence[str], values: Iterable[tuple[Labels, float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, meaning, labels=labels)
    for said, value in values:
        family.add_metric(said, value)
    return family
