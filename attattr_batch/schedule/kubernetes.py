"""Manifests for Kubernetes with KubeRay: a RayJob a tick, started by a CronJob, or by KubeRay itself.

The pods share a volume with the schedules file, the specs and the stores. Whatever starts the RayJob, its
entrypoint is `attattr schedule run-due`, so a tick is run once even where two RayJobs are started for it.
Ray's ports are open to other pods (KubeRay asks the head from outside), so every cluster has a token.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from attattr_batch.errors import UserError
from attattr_batch.schedule.settings import Schedule
from attattr_batch.schedule.timing import kubernetes_cron
from attattr_batch.spec import MachineSettings, WorkerPool

if TYPE_CHECKING:
    from attattr_batch.schedule.manifests import Place

Document = dict[str, Any]
Maker = Callable[[Schedule, "Place"], list[Document]]

NAME_LENGTH = 36
"""Longest name: KubeRay appends to a RayJob's name for its clusters, jobs and pods (63 characters in all)."""

_PREFIX = "attattr-"
_GENERATED = len("-abcde")  # what Kubernetes appends to a `generateName`
_KUBECTL = "registry.k8s.io/kubectl:v1.34.0"
_START_WITHIN_S = 3600
_KEEP_S = 86_400
_DEADLINE_S = 7 * 86_400
_WORKER_CPUS = 4


def check_name(name: str) -> None:
    """Checks that Kubernetes can carry a schedule's name.

    Raises:
        UserError: it is too long.
    """
    most = NAME_LENGTH - len(_PREFIX) - _GENERATED
    if len(name) > most:
        raise UserError(
            "the schedule's name is too long for Kubernetes",
            got=f"{name} ({len(name)} characters)",
            allowed=f"{most} characters: with what is added, names have at most {NAME_LENGTH}",
            hint="add the schedule under a shorter name",
        )


def check_workers(schedule: Schedule, place: Place) -> None:
    """Checks that the cluster, which starts without a worker and whose head computes nothing, fits the runs.

    Raises:
        UserError: a run does not say how many workers it wants, or none of them fits a machine; GPUs would
            be rented that no run uses; or the spec cannot be used.
    """
    specs = [spec for spec in schedule.first_specs() if spec.machine.executor != "local"]
    shape = f"gpus: {place.gpus}, " if place.gpus else ""
    in_spec = f"in the spec: `workers: [{{{shape}cpus: {_WORKER_CPUS}, count: {place.workers}}}]`"
    for spec in specs:
        _check_room(spec.machine, place, f"{schedule.spec}: {spec.data.task or spec.data.dataset}", in_spec)
    if place.gpus and specs and not any(_uses_gpus(spec.machine) for spec in specs):
        raise UserError(
            "machines with GPUs would compute on their CPUs: no worker asks for a GPU",
            got=f"{schedule.spec} and --gpus {place.gpus}",
            allowed="`workers` with `gpus`, and no `device: cpu`; or --gpus 0",
            hint=f"--gpus 0, or {in_spec}",
        )


def _check_room(machine: MachineSettings, place: Place, where: str, in_spec: str) -> None:
    if machine.workers is None:
        raise UserError(
            "a run on Kubernetes must say how many workers it wants, for its cluster starts with none",
            got=f"{where} without `workers`",
            allowed="`workers`, as a number or as pools",
            hint=in_spec,
        )
    pools = _pools(machine)
    if not any(pool.cpus <= _WORKER_CPUS and pool.gpus <= place.gpus for pool in pools):
        raise UserError(
            "no worker of a run fits a machine of the manifest",
            got=f"{where}: " + ", ".join(f"{pool.cpus} CPUs, {pool.gpus:g} GPUs" for pool in pools),
            allowed=f"{_WORKER_CPUS} CPUs, {place.gpus} GPUs",
            hint=f"--gpus, or {in_spec}",
        )


def _pools(machine: MachineSettings) -> Sequence[WorkerPool]:
    """The workers asked for; a bare number has GPUs only where CUDA is said, for the head has none to see."""
    if isinstance(machine.workers, list):
        return machine.workers
    return [WorkerPool(count=machine.workers or 1, gpus=1.0 if machine.device == "cuda" else 0.0)]


def _uses_gpus(machine: MachineSettings) -> bool:
    return machine.device != "cpu" and any(pool.gpus for pool in _pools(machine))


def ray_job(schedule: Schedule, place: Place) -> list[Document]:
    """One RayJob that runs what is due when it starts."""
    spec = _ray_job_spec(schedule, place)
    return [{"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": _metadata(schedule), "spec": spec}]


def ray_cron_job(schedule: Schedule, place: Place) -> list[Document]:
    """A RayCronJob: alpha in KubeRay 1.6, behind a feature gate, and it starts missed ticks side by side."""
    spec = {**_at_every_tick(schedule), "jobTemplate": _ray_job_spec(schedule, place)}
    return [{"apiVersion": "ray.io/v1", "kind": "RayCronJob", "metadata": _metadata(schedule), "spec": spec}]


def cron_job(schedule: Schedule, place: Place) -> list[Document]:
    """A CronJob that creates a RayJob at every tick, with the rights and the template it needs."""
    (job,) = ray_job(schedule, place)
    name = _PREFIX + schedule.name
    job["metadata"] = {"generateName": f"{name}-"}
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": _metadata(schedule)}
    rules = [{"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create"]}]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": _metadata(schedule),
        "rules": rules,
    }
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": _metadata(schedule),
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name}],
    }
    template = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(schedule),
        "data": {"rayjob.json": json.dumps(job, indent=1)},
    }
    return [account, role, binding, template, _creating_cron_job(schedule)]


def _creating_cron_job(schedule: Schedule) -> Document:
    name = _PREFIX + schedule.name
    container = {
        "name": "create-rayjob",
        "image": _KUBECTL,
        "command": ["kubectl", "create", "-f", "/template/rayjob.json"],
        "volumeMounts": [{"name": "template", "mountPath": "/template"}],
    }
    pod = {
        "serviceAccountName": name,
        "restartPolicy": "Never",
        "containers": [container],
        "volumes": [{"name": "template", "configMap": {"name": name}}],
    }
    spec = {
        **_at_every_tick(schedule),
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": _START_WITHIN_S,
        "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 3,
        "jobTemplate": {"spec": {"backoffLimit": 2, "template": {"spec": pod}}},
    }
    return {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": _metadata(schedule), "spec": spec}


def _ray_job_spec(schedule: Schedule, place: Place) -> Document:
    command = ["attattr", "schedule", "run-due", "--only", schedule.name]
    command += ["--schedules", str(place.state), "--address", "auto"]
    return {
        "entrypoint": shlex.join(command),
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "ttlSecondsAfterFinished": _KEEP_S,
        "activeDeadlineSeconds": _DEADLINE_S,
        "backoffLimit": 0,  # a failed tick is in the schedule's list; an interrupted one resumes at the next
        "rayClusterSpec": _cluster(place),
    }


def _cluster(place: Place) -> Document:
    # The head computes nothing: it holds the driver, the one writer of the store.
    head = {
        "rayStartParams": {"num-cpus": "0", "dashboard-host": "0.0.0.0"},
        "template": _pod("ray-head", place, {"cpu": "2", "memory": "8Gi"}),
    }
    resources = {"cpu": str(_WORKER_CPUS), "memory": "16Gi"}
    if place.gpus:
        resources["nvidia.com/gpu"] = str(place.gpus)
    group = {
        "groupName": "gpu" if place.gpus else "cpu",
        "replicas": 0,
        "minReplicas": 0,
        "maxReplicas": place.workers,
        "rayStartParams": {},
        "template": _pod("ray-worker", place, resources),
    }
    return {
        "rayVersion": version("ray"),
        # KubeRay (1.5.1 or newer) makes a Secret with a fresh token for each cluster, and gives it to every
        # container of Ray. An older one does not know the field, and kubectl refuses the document.
        "authOptions": {"mode": "token"},
        "enableInTreeAutoscaling": True,
        "headGroupSpec": head,
        "workerGroupSpecs": [group],
    }


def _pod(name: str, place: Place, resources: Mapping[str, str]) -> Document:
    container = {
        "name": name,
        "image": place.image,
        "workingDir": place.mount,
        "resources": {"requests": dict(resources), "limits": dict(resources)},
        "volumeMounts": [
            {"name": "work", "mountPath": place.mount},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    volumes = [
        {"name": "work", "persistentVolumeClaim": {"claimName": place.claim}},
        {"name": "shm", "emptyDir": {"medium": "Memory"}},
    ]
    return {"spec": {"containers": [container], "volumes": volumes}}


def _at_every_tick(schedule: Schedule) -> Document:
    """When Kubernetes starts the RayJob: at the tick itself, and once.

    Raises:
        UserError: the tick falls due only later, when nobody looks any more, or may count as missed before
            anybody looks; or Kubernetes does not read the cron expression as we do.
    """
    if schedule.jitter_s:
        raise UserError(
            "Kubernetes starts a schedule's RayJob at its tick, so it cannot be delayed",
            got=f"schedule {schedule.name} with --jitter {schedule.jitter_s}",
            allowed="no jitter",
            hint="add the schedule without --jitter, at a minute of its own in --cron",
        )
    if schedule.missed == "skip":
        raise UserError(
            "Kubernetes looks once, and a tick is missed if image and cluster take over five minutes",
            got=f"schedule {schedule.name} with --missed skip",
            allowed="--missed last, --missed all",
            hint="add the schedule with --missed last: a late tick still runs",
        )
    return {
        "schedule": kubernetes_cron(schedule.cron),
        "timeZone": "Etc/UTC" if schedule.tz == "UTC" else schedule.tz,
    }


def _metadata(schedule: Schedule) -> Document:
    labels = {"app.kubernetes.io/name": "attattr", "attattr/schedule": schedule.name}
    return {"name": _PREFIX + schedule.name, "labels": labels}
