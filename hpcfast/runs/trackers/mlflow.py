"""MLflow: the server of MLFLOW_TRACKING_URI, or files in the run directory where there is none."""

import os
import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, ClassVar

from hpcfast.runs.trackers import About, Point, Tracker, numbers

TAG = "hpcfast.run"
"""Holds the id of the run: MLflow gives its runs ids of its own."""
MOST = 100
"""Parameters, or metrics, that a server takes at a time."""
LONGEST = 500
"""Characters of a parameter that any server takes."""


class Mlflow(Tracker):
    """MLflow."""

    # Files: a cluster's disks are no place for MLflow's other store, a data base that locks a file.
    environment: ClassVar[dict[str, str]] = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ALLOW_FILE_STORE": "true"}

    project: str = "hpcfast"
    """MLflow's experiment."""

    @property
    def library(self) -> str:
        return "mlflow"

    @property
    def package(self) -> str:
        return "mlflow-skinny"

    def open(self, run: About) -> "_Sink":
        return _Sink(self.project, run)


class _Sink:
    """What was logged cannot be taken back: a step's number stays the first that was told."""

    def __init__(self, project: str, run: About) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        uri = os.environ.get("MLFLOW_TRACKING_URI") or run.folder.absolute().as_uri()
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(project)
        place = experiment.experiment_id if experiment else self._client.create_experiment(project)
        found = self._client.search_runs([place], f"tags.`{TAG}` = '{run.id}'")
        mine = found[0] if found else self._client.create_run(place, tags={TAG: run.id}, run_name=run.name)
        self._id = mine.info.run_id
        self._client.update_run(self._id, status="RUNNING")
        if not found:
            params = [Param(key, str(value)[:LONGEST]) for key, value in _leaves(run.config)]
            for part in _parts(params):
                self._client.log_batch(self._id, params=part)
        self._there = {
            (key, metric.step)
            for key in mine.data.metrics
            for metric in self._client.get_metric_history(self._id, key)
        }  # fmt: skip

    def log(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        new = [point for point in points if (point.key, point.step) not in self._there]
        metrics = [Metric(point.key, point.value, round(1000 * point.time), point.step) for point in new]
        for part in _parts(metrics):
            self._client.log_batch(self._id, metrics=part)
        self._there.update((point.key, point.step) for point in new)

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary:
            now = time.time()
            self.log([Point(key, value, summary["steps"], now) for key, value in numbers(summary, "final/").items()])
        self._client.set_terminated(self._id, "FINISHED" if summary else "KILLED")


def _parts(whole: Sequence[Any]) -> Iterator[list[Any]]:
    left = iter(whole)
    while part := list(islice(left, MOST)):
        yield part


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a configuration, each under its full key."""
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
