"""Manifests: systemd's own checker, cron's rules, and the resource definitions of KubeRay."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.scheduling import START, Bench
from jsonschema import Draft202012Validator, ValidationError

from attattr_batch.errors import UserError
from attattr_batch.schedule.manifests import Place, manifest
from attattr_batch.schedule.settings import Schedule

DEPLOYED = Path(__file__).resolve().parents[2] / "deploy"
PLACE = Place(Path("/work/schedules.sqlite"), "registry.local/attattr:1", "attattr", "/work")
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
    place = Place(Path("/work/schedules.sqlite"), "attattr:latest", "attattr", "/work")
    return manifest("rayjob", nightly, place) | manifest("cronjob", nightly, place)


def documents(kind: str, schedule: Schedule, place: Place = PLACE) -> list[dict[str, Any]]:
    (text,) = manifest(kind, schedule, place).values()
    return list(yaml.safe_load_all(text))


@pytest.fixture(scope="module")
def definition(real_data: Path) -> Draft202012Validator:
    """The validator of a RayJob, which refuses unknown fields as the API server does."""
    text = (real_data / "crds" / "ray.io_rayjobs.yaml").read_text(encoding="utf-8")
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]  # long: the slow one takes seconds
    version = next(one for one in versions if one["name"] == "v1")
    return Draft202012Validator(_closed(version["schema"]["openAPIV3Schema"]))


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
def test_kuberay_accepts_the_document_and_no_bad_field(
    nightly: Schedule, definition: Draft202012Validator
) -> None:
    (document,) = documents("rayjob", nightly)
    definition.validate(document)
    job = document["spec"]
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
            definition.validate(document)
        place.clear()
        place.update(before)
    definition.validate(document)


@pytest.mark.real
def test_the_cron_job_creates_a_valid_ray_job(nightly: Schedule, definition: Draft202012Validator) -> None:
    *others, cron, template = documents("cronjob", nightly)
    assert [one["kind"] for one in others] == ["ServiceAccount", "Role", "RoleBinding"]
    job = yaml.safe_load(template["data"]["rayjob.yaml"])
    definition.validate(job)
    assert job["metadata"]["generateName"] == "attattr-nightly-"
    assert "schedule run-due --only nightly" in job["spec"]["entrypoint"]
    assert cron["spec"]["schedule"] == "30 2 * * 1-5"
    assert cron["spec"]["timeZone"] == "Europe/Berlin"
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"


def test_whoever_reaches_the_cluster_needs_the_token_of_its_secret(nightly: Schedule) -> None:
    (document,) = documents("rayjob", nightly)
    cluster = document["spec"]["rayClusterSpec"]
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


def test_a_name_that_kubernetes_cannot_carry_is_refused(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    longest = bench.add("n" * 22, spec=SPEC)
    (document,) = documents("rayjob", longest)
    assert len(document["metadata"]["generateName"]) + len("abcde") == 36
    with pytest.raises(UserError, match="too long for Kubernetes"):
        manifest("cronjob", bench.add("n" * 23), PLACE)


@pytest.mark.parametrize("cron", ["30 2 * * 1-5", "0 2 * * SUN,wed", "0 2 * * */2", "0 2 1 7 1"])
def test_kubernetes_gets_the_cron_expression(tmp_path: Path, cron: str) -> None:
    schedule = Bench(tmp_path).add(spec=SPEC, cron=cron, tz="Europe/Berlin")
    (cron_job,) = [one for one in documents("cronjob", schedule) if one["kind"] == "CronJob"]
    assert (cron_job["spec"]["schedule"], cron_job["spec"]["timeZone"]) == (cron, "Europe/Berlin")


@pytest.mark.parametrize(
    "cron",
    [
        *("0 2 L * *", "0 2 LW * *", "0 2 * * 5L", "0 2 * * 1#2", "0 2 * * 1#2,5"),
        *("0 2 * * 7", "0 2 * * 5-7", "0 2 * * 1/2"),
        *("0 2 */2 * 1", "0 2 1-7 * */2"),
    ],
)
def test_what_kubernetes_would_not_read_as_cron_does_is_refused(tmp_path: Path, cron: str) -> None:
    schedule = Bench(tmp_path).add(spec=SPEC, cron=cron)
    with pytest.raises(UserError, match="Kubernetes would read(.|\n)*cron or systemd"):
        manifest("cronjob", schedule, PLACE)
    assert manifest("rayjob", schedule, PLACE) and manifest("crontab", schedule, PLACE)


@pytest.mark.parametrize("kind", ["cronjob", "rayjob"])
def test_a_run_that_does_not_say_how_many_workers_it_wants_is_refused(tmp_path: Path, kind: str) -> None:
    schedule = Bench(tmp_path).add()
    with pytest.raises(UserError, match=r"(?s)must say how many workers.*sst2 without `workers`"):
        manifest(kind, schedule, PLACE)
    assert manifest("crontab", schedule, PLACE), "one machine starts as many as fit"


@pytest.mark.parametrize(
    ("spec", "groups"),
    [
        ("workers: 8", [("cpu0", 8, "1", None)]),
        ("workers: 8, device: cuda", [("gpu0", 8, "1", "1")]),
        (
            "workers: [{gpus: 2, cpus: 4}, {cpus: 3, count: 5}]",
            [("cpu0", 5, "3", None), ("gpu1", 1, "4", "2")],
        ),
        ("workers: [{gpus: 0.5, cpus: 2, count: 5}]", [("gpu0", 3, "4", "1")]),
        ("workers: [{count: 2}, {count: 3}]", [("cpu0", 5, "1", None)]),
    ],
)
def test_each_shape_of_worker_has_a_group_of_pods_that_fit_it(
    tmp_path: Path, spec: str, groups: list[tuple[str, int, str, str | None]]
) -> None:
    schedule = Bench(tmp_path).add(spec=f"{{task: sst2, model: bundled, {spec}}}")
    (document,) = documents("rayjob", schedule)
    assert worker_groups(document) == groups


def test_runs_follow_each_other_and_share_groups(tmp_path: Path) -> None:
    runs = "runs: [{task: sst2, workers: 2}, {task: rte, workers: 6}, {task: mrpc, workers: [{gpus: 1}]}]"
    schedule = Bench(tmp_path).add(spec=f"{{defaults: {{model: bundled}}, {runs}}}")
    (document,) = documents("rayjob", schedule)
    assert worker_groups(document) == [("cpu0", 6, "1", None), ("gpu1", 1, "1", "1")]


def worker_groups(job: dict[str, Any]) -> list[tuple[str, int, str, str | None]]:
    """Name, pods at most, and CPUs and GPUs of a pod, for each group."""
    found = []
    for group in job["spec"]["rayClusterSpec"]["workerGroupSpecs"]:
        (container,) = group["template"]["spec"]["containers"]
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"]
        found.append((group["groupName"], group["maxReplicas"], limits["cpu"], limits.get("nvidia.com/gpu")))
    return found


def test_any_text_reaches_the_documents_as_it_is(nightly: Schedule) -> None:
    odd = 'a "b" $image: {c} # \u00e9 \U0001f600'
    (document,) = documents("rayjob", nightly, Place(Path("/w x/s.sqlite"), odd, "attattr", odd))
    pod = document["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["containers"][0]["workingDir"]) == (odd, odd)
    assert "--schedules '/w x/s.sqlite'" in document["spec"]["entrypoint"]
    *_, template = documents("cronjob", nightly, Place(Path("/w x/s.sqlite"), odd, "attattr", odd))
    assert yaml.safe_load(template["data"]["rayjob.yaml"]) == document


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
    assert line.endswith("attattr schedule run-due --only nightly --schedules /work/schedules.sqlite --quiet")
