"""Manifests: systemd's own checker, cron's rules, and the resource definitions of KubeRay."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError
from scheduling import START, Bench

from attattr_batch.errors import UserError
from attattr_batch.schedule.manifests import Place, manifest
from attattr_batch.schedule.settings import Schedule

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy"
PLACE = Place(
    Path("/work/schedules.sqlite"), "registry.local/attattr:1", "attattr", "/work", gpus=1, workers=8
)


SPEC = "{task: sst2, model: bundled, workers: [{gpus: 1, count: 8}]}"


@pytest.fixture
def nightly(tmp_path: Path) -> Schedule:
    return Bench(tmp_path).add(spec=SPEC, cron="30 2 * * 1-5", tz="Europe/Berlin")


def deployed() -> dict[str, str]:
    """The examples in `deploy/`: what `attattr schedule manifest` writes for this schedule."""
    nightly = Schedule(
        name="nightly",
        cron="0 2 * * *",
        spec=DEPLOYED / "night.yaml",
        db=Path("/work/results.duckdb"),
        created_at=START,
    )
    place = Place(Path("/work/schedules.sqlite"), "attattr:latest", "attattr", "/work", gpus=1, workers=8)
    return manifest("rayjob", nightly, place) | manifest("cronjob", nightly, place)


def documents(kind: str, schedule: Schedule, place: Place = PLACE) -> list[dict[str, Any]]:
    (text,) = manifest(kind, schedule, place).values()
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def definition(real_data: Path) -> Any:
    """Gives the validator of a KubeRay kind, which refuses unknown fields as the API server does."""

    @cache
    def of(plural: str) -> Draft202012Validator:
        text = (real_data / "crds" / f"ray.io_{plural}.yaml").read_text(encoding="utf-8")
        versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]  # long: the slow one takes seconds
        version = next(one for one in versions if one["name"] == "v1")
        return Draft202012Validator(_closed(version["schema"]["openAPIV3Schema"]))

    return of


def _closed(schema: Any) -> Any:
    """The same schema with unknown fields forbidden, and Kubernetes' number-or-string understood."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if closed.get("x-kubernetes-int-or-string") is True:
        closed.pop("type", None)
        closed["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        closed.setdefault("additionalProperties", False)
    return closed


@pytest.mark.real
@pytest.mark.parametrize(("kind", "plural"), [("rayjob", "rayjobs"), ("raycronjob", "raycronjobs")])
def test_kuberay_accepts_the_document_and_no_bad_field(
    nightly: Schedule, definition: Any, kind: str, plural: str
) -> None:
    validator = definition(plural)
    (document,) = documents(kind, nightly)
    validator.validate(document)
    job = document["spec"]["jobTemplate"] if kind == "raycronjob" else document["spec"]
    group = job["rayClusterSpec"]["workerGroupSpecs"][0]
    bad: list[tuple[dict[str, Any], str, Any]] = [
        (job, "backofLimit", 1),
        (job, "ttlSecondsAfterFinished", "a day"),
        (group, "maxReplicas", "eight"),
    ]
    for place, key, value in bad:
        before = dict(place)
        place[key] = value
        with pytest.raises(ValidationError):
            validator.validate(document)
        place.clear()
        place.update(before)
    validator.validate(document)


@pytest.mark.real
def test_the_cron_job_creates_a_valid_ray_job(nightly: Schedule, definition: Any) -> None:
    *others, template, cron = documents("cronjob", nightly)
    assert [one["kind"] for one in others] == ["ServiceAccount", "Role", "RoleBinding"]
    job = json.loads(template["data"]["rayjob.json"])
    definition("rayjobs").validate(job)
    assert job["metadata"] == {"generateName": "attattr-nightly-"}
    assert "schedule run-due --only nightly" in job["spec"]["entrypoint"]
    assert cron["spec"]["schedule"] == "30 2 * * 1-5"
    assert cron["spec"]["timeZone"] == "Europe/Berlin"
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


@pytest.mark.parametrize("kind", ["cronjob", "rayjob", "raycronjob"])
def test_whoever_reaches_the_cluster_needs_the_token_of_its_secret(nightly: Schedule, kind: str) -> None:
    *_, document = [one for one in documents(kind, nightly) if one["kind"] != "CronJob"]
    if kind == "cronjob":
        document = json.loads(document["data"]["rayjob.json"])
    job = document["spec"]["jobTemplate"] if kind == "raycronjob" else document["spec"]
    cluster = job["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "0.0.0.0"
    assert cluster["authOptions"] == {"mode": "token"}
    # KubeRay refuses a token where it is not told of a Ray that knows tokens.
    assert [int(part) for part in cluster["rayVersion"].split(".")[:2]] >= [2, 52]


def test_the_cluster_scales_to_nothing_and_computes_off_the_head(nightly: Schedule) -> None:
    (document,) = documents("rayjob", nightly)
    cluster = document["spec"]["rayClusterSpec"]
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    (group,) = cluster["workerGroupSpecs"]
    assert (group["minReplicas"], group["maxReplicas"]) == (0, 8)
    (container,) = group["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_a_name_that_kubernetes_cannot_carry_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    longest = bench.add("n" * 22, spec=SPEC)
    (document,) = documents("rayjob", longest)
    assert len(document["metadata"]["name"]) + len("-abcde") == 36
    with pytest.raises(UserError, match="too long for Kubernetes"):
        manifest("cronjob", bench.add("n" * 23), PLACE)


@pytest.mark.parametrize("kind", ["cronjob", "raycronjob"])
def test_a_delay_that_the_ray_job_would_not_wait_for_is_refused(tmp_path: Path, kind: str) -> None:
    delayed = Bench(tmp_path).add(spec=SPEC, jitter_s=1800)
    with pytest.raises(UserError, match=r"cannot be delayed(.|\n)*--jitter 1800(.|\n)*without --jitter"):
        manifest(kind, delayed, PLACE)
    assert manifest("crontab", delayed, PLACE), "called every minute, cron sees the tick fall due"


@pytest.mark.parametrize("kind", ["cronjob", "raycronjob"])
def test_a_tick_that_would_be_missed_when_the_cluster_is_up_is_refused(tmp_path: Path, kind: str) -> None:
    skipping = Bench(tmp_path).add(spec=SPEC, missed="skip")
    with pytest.raises(UserError, match=r"over five minutes(.|\n)*--missed skip(.|\n)*--missed last"):
        manifest(kind, skipping, PLACE)
    assert manifest("rayjob", skipping, PLACE), "somebody starts it on time"


@pytest.mark.parametrize(
    ("cron", "given"),
    [
        ("30 2 * * 1-5", "30 2 * * 1-5"),
        ("0 2 * * SUN,tue", "0 2 * * SUN,tue"),
        ("0 2 * * 7", "0 2 * * 0"),
        ("0 2 * * 5-7", "0 2 * * 0,5,6"),
        ("0 2 1 * 1,7", "0 2 1 * 0,1"),
        ("0 2 * * 1/2", "0 2 * * 0,1,3,5"),
        ("0 2 * * */2", "0 2 * * */2"),
    ],
)
def test_kubernetes_weekdays_end_with_6(tmp_path: Path, cron: str, given: str) -> None:
    schedule = Bench(tmp_path).add(spec=SPEC, cron=cron)
    for kind in ("cronjob", "raycronjob"):
        assert documents(kind, schedule)[-1]["spec"]["schedule"] == given


@pytest.mark.parametrize(
    ("cron", "message"),
    [
        ("0 2 L * *", "does not know"),
        ("0 2 LW * *", "does not know"),
        ("0 2 * * 5L", "does not know"),
        ("0 2 * * 1#2", "does not know"),
        ("0 2 * * 1#2,5", "does not know"),
        ("0 2 */2 * 1", "on more days"),
        ("0 2 1-7 * */2", "on more days"),
    ],
)
def test_what_kubernetes_would_not_read_as_cron_does_is_refused(
    tmp_path: Path, cron: str, message: str
) -> None:
    schedule = Bench(tmp_path).add(spec=SPEC, cron=cron)
    for kind in ("cronjob", "raycronjob"):
        with pytest.raises(UserError, match=f"{message}(.|\n)*cron or systemd"):
            manifest(kind, schedule, PLACE)
    assert manifest("rayjob", schedule, PLACE) and manifest("crontab", schedule, PLACE)


@pytest.mark.parametrize("kind", ["cronjob", "rayjob", "raycronjob"])
@pytest.mark.parametrize(
    ("settings", "gpus", "message"),
    [
        ("", 1, r"must say how many workers.*sst2 without `workers`.*\[{gpus: 1, cpus: 4, count: 8}\]"),
        ("", 0, r"must say how many workers.*`workers: \[{cpus: 4, count: 8}\]`"),
        ("workers: 8", 1, r"compute on their CPUs.*--gpus 1.*next:    --gpus 0, or .*gpus: 1"),
        ("workers: [{gpus: 1}], device: cpu", 1, "compute on their CPUs"),
        ("workers: [{gpus: 2}, {cpus: 5}]", 1, r"no worker.*1 CPUs, 2 GPUs, 5 CPUs, 0 GPUs.*4 CPUs, 1 GPUs"),
        ("workers: 8, device: cuda", 0, "no worker of a run fits.*1 CPUs, 1 GPUs"),
    ],
)
def test_a_cluster_on_which_the_runs_could_not_work_is_refused(
    tmp_path: Path, kind: str, settings: str, gpus: int, message: str
) -> None:
    schedule = Bench(tmp_path).add(spec=f"{{task: sst2, model: bundled, {settings}}}")
    with pytest.raises(UserError, match=f"(?s){message}"):
        manifest(kind, schedule, replace(PLACE, gpus=gpus))
    assert manifest("crontab", schedule, PLACE), "on one machine there is nothing to rent"


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ("workers: 8", 0),
        ("workers: 8, device: cuda", 1),
        ("workers: [{gpus: 0.5, count: 8}, {cpus: 64}]", 1),
        ("executor: local", 1),
    ],
)
def test_a_cluster_on_which_the_runs_work_is_written(tmp_path: Path, settings: str, gpus: int) -> None:
    schedule = Bench(tmp_path).add(spec=f"{{task: sst2, model: bundled, {settings}}}")
    assert manifest("cronjob", schedule, replace(PLACE, gpus=gpus))


def test_one_run_that_uses_the_gpus_is_enough(tmp_path: Path) -> None:
    runs = "runs: [{task: sst2, workers: [{gpus: 1}]}, {task: rte, workers: 2}]"
    schedule = Bench(tmp_path).add(spec=f"{{defaults: {{model: bundled}}, {runs}}}")
    assert manifest("cronjob", schedule, PLACE)


def test_an_unknown_kind_is_refused(nightly: Schedule) -> None:
    with pytest.raises(UserError, match=r"unknown kind of manifest(.|\n)*did you mean 'cronjob'"):
        manifest("cronjobs", nightly, PLACE)


@pytest.mark.parametrize("name", deployed())
def test_the_examples_in_deploy_are_what_the_command_writes(name: str) -> None:
    assert (DEPLOYED / name).read_text(encoding="utf-8") == deployed()[name]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    folder = tmp_path / "with space and 100 %"
    folder.mkdir()
    files = manifest("systemd", Bench(folder).add(), PLACE)
    assert sorted(files) == ["attattr-nightly.service", "attattr-nightly.timer"]
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", *(str(tmp_path / name) for name in files)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    ours = [line for line in checked.stderr.splitlines() if "attattr" in line]
    assert (checked.returncode, ours) == (0, []), checked.stderr


def test_cron_gets_one_line_a_minute(nightly: Schedule) -> None:
    (text,) = manifest("crontab", nightly, PLACE).values()
    comment, line = text.splitlines()
    assert "30 2 * * 1-5 Europe/Berlin" in comment
    assert line.startswith("* * * * * /")
    assert line.endswith("attattr schedule run-due --quiet --only nightly --schedules /work/schedules.sqlite")
