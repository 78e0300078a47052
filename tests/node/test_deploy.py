"""What lies in deploy/ fits the node: settings that load, metrics that exist, units that systemd takes."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from support.core import dataset, encoded
from support.filled import Filled, fill
from support.orthanc import Orthanc
from support.receiver import receiver, wait_until

from radnode import settings as settings_module
from radnode import start
from radnode.errors import SettingsError
from radnode.node_lock import TAKEN_S
from radnode.peers.peer import Peer
from radnode.settings import Settings
from radnode.web.metrics import NodeCollector
from radnode.web.metrics_machine import Gpus

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
METRIC = re.compile(r"\bradnode_[a-z_]+")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filled]:
    made = fill(tmp_path_factory.mktemp("watched"))
    yield made
    made.database.close()


@pytest.fixture(scope="module")
def families(filled: Filled) -> dict[str, Any]:
    """What /metrics says of a node after a morning's work, by the names of samples."""
    registry = CollectorRegistry()
    registry.register(NodeCollector(filled.settings, filled.database))
    found = list(text_string_to_metric_families(generate_latest(registry).decode()))
    return {f.name: f for f in found} | {s.name: f for f in found for s in f.samples}


def expressions() -> dict[str, str]:
    """Every PromQL expression in deploy/, by where it stands."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yaml").read_text())
    found = {r["alert"]: r["expr"] for group in rules["groups"] for r in group["rules"]}
    board = json.loads((DEPLOY / "grafana" / "radnode.json").read_text())
    for panel in board["panels"]:
        found |= {f"{panel['title']} {t['refId']}": t["expr"] for t in panel["targets"]}
    return found


def test_every_metric_of_the_dashboard_and_the_alerts_is_there(families: dict[str, Any]) -> None:
    wanted = {name: where for where, text in expressions().items() for name in METRIC.findall(text)}
    assert len(wanted) > 15
    assert {n: w for n, w in wanted.items() if n not in families and n.removesuffix("_bucket") not in families} == {}


def test_every_expression_is_one_of_prometheus() -> None:
    for where, expression in expressions().items():
        assert promql_parser.parse(expression), where
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("rate(radnode_failures")


def test_every_label_of_the_dashboard_and_the_alerts_is_there(families: dict[str, Any]) -> None:
    for where, text in expressions().items():
        (metric, *_) = METRIC.findall(text) or [""]
        family = families.get(metric.removesuffix("_bucket"))
        for label in re.findall(r"\{(\w+)=|by \((?:le)?,? ?(\w*)\)", text):
            name = next((x for x in label if x), "")
            if family is not None and family.samples and name and name != "le":
                assert name in family.samples[0].labels, (where, name)


def test_every_metric_is_on_the_dashboard(families: dict[str, Any]) -> None:
    shown = {m.removesuffix("_bucket") for text in expressions().values() for m in METRIC.findall(text)}
    ours = {f.name for f in families.values() if f.name.startswith("radnode_")}
    assert ours - shown == {"radnode_info", "radnode_disk_total_bytes"}


def test_metrics_measure_what_the_tables_hold(families: dict[str, Any]) -> None:
    def value(name: str, sample: str = "", **labels: str) -> float:
        return float(next(s.value for s in families[name].samples if s.name == (sample or name) and s.labels == labels))

    stage = "radnode_stage_seconds"
    assert value("radnode_results_owed", destination="ehr") == 3
    assert value("radnode_results_owed_oldest_seconds", destination="ehr") > 4000
    assert value("radnode_declines", model="ct-lung", gate="other") == 1
    assert value("radnode_failures", model="mr-breast-kinetics", state="failed") == 1
    assert value("radnode_model_seconds", "radnode_model_seconds_count", model="ct-lung") == 3
    assert value("radnode_model_seconds", "radnode_model_seconds_sum", model="ct-lung") == pytest.approx(12.0)
    assert value(stage, f"{stage}_bucket", stage="receive", le="2.0") == 0
    assert value(stage, f"{stage}_bucket", stage="receive", le="5.0") == value(stage, f"{stage}_count", stage="receive")
    listed = "radnode_last_image_to_worklist_seconds"
    assert value(listed, f"{listed}_count") == 3
    assert value(listed, f"{listed}_sum") == pytest.approx(3 * 14.0)
    assert value("radnode_disk_free_bytes") > 0
    assert (value("radnode_ready", check="database"), value("radnode_ready", check="disk")) == (1, 1)
    assert value("radnode_memory_bytes", role="web") > 10_000_000


def test_gpus_are_told_as_nvidia_smi_says_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [list(f.samples) for f in Gpus().families()] == [[], [], []]
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho '0, 1024, 81559, 37'\necho '1, 0, 81559, [N/A]'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    used, total, busy = Gpus().families()
    assert [(s.labels["gpu"], s.value) for s in used.samples] == [("0", 2.0**30), ("1", 0.0)]
    assert total.samples[0].value == 81559 * 2**20
    assert [(s.labels["gpu"], s.value) for s in busy.samples] == [("0", 0.37)]


@pytest.mark.parametrize("name", ["radnode.service", "radnode-backup.service"])
def test_systemd_takes_the_units_and_finds_them_hardened(name: str, tmp_path: Path) -> None:
    unit = (DEPLOY / "systemd" / name).read_text().replace("/opt/radnode/.venv/bin/radnode", "/bin/true")
    (tmp_path / name).write_text(unit)
    if shutil.which("systemd-analyze") is None:
        pytest.fail("systemd-analyze is missing: apt-get install systemd")
    said = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")
    hardened = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=40", str(tmp_path / name)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert hardened.returncode == 0, hardened.stdout


def load(monkeypatch: pytest.MonkeyPatch, file: Path, environment: dict[str, str]) -> Settings:
    for key, value in ({"RADNODE_CONFIG": str(file)} | environment).items():
        monkeypatch.setenv(key, value)
    return settings_module.load()


def test_the_compose_file_gives_the_node_settings_that_load(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = DEPLOY / "compose"
    compose = yaml.safe_load((folder / "compose.yaml").read_text())
    services = compose["services"]
    assert set(services) == {"node", "database", "orthanc", "viewer", "front"}
    given = {k: v for k, v in services["node"]["environment"].items() if k != "RADNODE_CONFIG"}
    settings = load(
        monkeypatch, folder / "radnode.toml", {k: re.sub(r"\$\{.*?\}", "secret", v) for k, v in given.items()}
    )
    orthanc = json.loads((folder / "orthanc.json").read_text())
    (to,) = settings.destinations
    assert (to.host, to.port, to.ae_title) == ("orthanc", orthanc["DicomPort"], orthanc["DicomAet"])
    (asked,) = settings.peers
    there = Peer(**asked.model_dump())
    assert (there.called_at, there.port, there.ae_title) == (to.host, to.port, to.ae_title)
    assert {"query", "retrieve"} <= set(there.may), "its Test button and evidence need them"
    assert orthanc["DicomModalities"]["radnode"] == [settings.receive.ae_title, "node", settings.receive.port]
    assert {str(settings.data), "/var/backups/radnode"} <= {v.split(":")[1] for v in services["node"]["volumes"]}
    for service in services.values():
        assert all(p.startswith("127.0.0.1:") for p in service.get("ports", []))
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (folder / source).is_file() if source.startswith(".") else source in compose["volumes"], volume
    assert (folder / services["node"]["build"]["context"] / services["node"]["build"]["dockerfile"]).is_file()


def test_ohif_asks_orthanc_under_its_own_address() -> None:
    """Orthanc answers no page of another address (CORS), and the address of the viewer is that of `front`."""
    folder = DEPLOY / "compose"
    services = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    front = (folder / "front.conf").read_text()
    passed = dict(re.findall(r"location (\S+) \{\s+proxy_pass (\S+);", front))
    assert passed == {"/dicom-web/": "http://orthanc:8042/dicom-web/", "/": "http://viewer:80/"}
    roots = re.findall(r"(\w+)Root: '([^']*)'", (folder / "ohif.js").read_text())
    assert {name for name, _ in roots} == {"wadoUri", "qido", "wado"}
    assert all(f"{root}/" in passed for _, root in roots)
    (settings,) = re.findall(r"location = /app-config\.js \{.*\n    alias (\S+);", front)
    assert f"./ohif.js:{settings}:ro" in services["front"]["volumes"]
    (port,) = services["front"]["ports"]
    viewer_url = tomllib.loads((folder / "radnode.toml").read_text())["web"]["viewer_url"]
    assert viewer_url.startswith(f"http://{port.rpartition(':')[0]}/") and "ports" not in services["viewer"]


def test_the_viewer_of_the_compose_file_is_the_one_that_the_tests_look_at() -> None:
    services = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]
    (tested,) = re.findall(r'"@ohif/app@([\d.]+)"', (DEPLOY.parent / "tests" / "viewers" / "fetch.sh").read_text())
    assert services["viewer"]["image"] == f"ohif/app:v{tested}"


@pytest.mark.system
def test_orthanc_sends_stable_studies_by_the_script_of_the_compose_file(tmp_path: Path) -> None:
    folder = DEPLOY / "compose"
    given = json.loads((folder / "orthanc.json").read_text())
    assert [Path(name).name for name in given["LuaScripts"]] == ["autoroute.lua"]
    ((name, (ae_title, _, _)),) = given["DicomModalities"].items()
    with receiver(tmp_path / "data", accept_unknown_callers=True) as node:
        modalities = {name: [ae_title, "127.0.0.1", node.port]}
        more = {"LuaScripts": [str(folder / "autoroute.lua")], "StableAge": 1, "DicomModalities": modalities}
        with Orthanc(tmp_path / "pacs", more) as pacs:
            pacs.upload(encoded(dataset("1.2.3", "1.2.3.9", SeriesInstanceUID="1.2.3.2", Modality="SR")))
            for n in range(3):
                pacs.upload(encoded(dataset("1.2.3", f"1.2.3.{n}", SeriesInstanceUID="1.2.3.1")))
            wait_until(lambda: len(node.rows()) >= 3, 60, f"the images: {pacs.log}")
            ended = ("Success", "Failure")
            wait_until(lambda: all(j["State"] in ended for j in pacs.http.get("/jobs?expand").json()), 60, "the jobs")
        assert {row.sop_uid for row in node.rows()} == {"1.2.3.0", "1.2.3.1", "1.2.3.2"}


def test_the_service_starts_again_when_the_database_was_not_there_and_not_when_its_settings_are_wrong() -> None:
    unit = (DEPLOY / "systemd" / "radnode.service").read_text().splitlines()
    assert {"Restart=on-failure", "RestartPreventExitStatus=2", "StartLimitIntervalSec=0"} <= set(unit)


def test_the_dockerfile_copies_what_there_is() -> None:
    text = (DEPLOY / "compose" / "Dockerfile").read_text()
    names = [n for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for n in line.split()]
    assert len(names) == 9
    assert [n for n in names if not (DEPLOY.parent / n).exists()] == []
    assert re.search(r"^TORCH := torch==", (DEPLOY.parent / "Makefile").read_text(), re.MULTILINE)


def test_the_image_is_built_from_what_it_needs_and_nothing_else_of_the_folder() -> None:
    """Neither patients' images in a data folder nor a virtual environment go to Docker."""
    text = (DEPLOY / "compose" / "Dockerfile").read_text()
    names = {n for line in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE) for n in line.split()}
    lines = [line for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"
    assert {line.removeprefix("!") for line in lines if line.startswith("!")} == names
    assert "install --requirement needed.txt --constraint requirements.lock" in text, "tests and documents stay outside"


def test_the_example_for_kubernetes_has_settings_that_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "radnode.yaml").read_text()))
    config, stateful, service, outside = parts
    file = tmp_path / "radnode.toml"
    file.write_text(config["data"]["radnode.toml"])
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    given = {e["name"]: e.get("value", "postgresql+psycopg://a:b@c/d") for e in container["env"]}
    del given["RADNODE_CONFIG"]
    settings = load(monkeypatch, file, given)
    mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
    assert mounts[str(settings.data)] == stateful["spec"]["volumeClaimTemplates"][0]["metadata"]["name"]
    claims = {c["metadata"]["name"] for c in stateful["spec"]["volumeClaimTemplates"]}
    volumes = {v["name"] for v in stateful["spec"]["template"]["spec"]["volumes"]} | claims
    assert "/var/backups/radnode" in mounts, "the rest is read-only or the data folder itself, where no backup goes"
    assert set(mounts.values()) == volumes
    ports = {p["name"]: p["containerPort"] for p in container["ports"]}
    assert ports == {"dicom": settings.receive.port, "web": settings.web.port}
    assert {p["targetPort"] for p in service["spec"]["ports"]} == set(ports)
    assert stateful["spec"]["selector"]["matchLabels"] == service["spec"]["selector"] == outside["spec"]["selector"]
    assert outside["spec"]["externalTrafficPolicy"] == "Local", "else a caller has not its own address"
    assert stateful["spec"]["template"]["spec"]["enableServiceLinks"] is False, "they would be taken for settings"
    patience = container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"]
    assert patience > 2 * TAKEN_S


def test_a_data_folder_of_another_user_is_told_as_that(tmp_path: Path) -> None:
    """A volume that Docker did not make itself belongs to root."""
    data = tmp_path / "data"
    data.mkdir(mode=0o000)
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)  # root may read everything
    try:
        with pytest.raises(SettingsError, match=r"The data folder \S+ cannot be used: Permission denied\.") as told:
            start.make_data_folder(Settings(data=data))
    finally:
        os.seteuid(user)
    assert "It has to belong to the user" in told.value.hint


@pytest.mark.parametrize(
    ("dependencies", "code", "said"),
    [
        ([{"name": "a", "version": "1", "vulns": []}], 0, "1 packages were audited, 0 weaknesses are known."),
        ([{"name": "a", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}], 1, "a 1: CVE-1, repaired in 2"),
        ([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}], 3, "NOT AUDITED: 1 of 2"),
        (None, 3, "NOT AUDITED: 0 of 0"),
    ],
)  # fmt: skip
def test_packages_that_nobody_looked_up_are_not_called_sound(
    dependencies: list[dict[str, Any]] | None, code: int, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "found.json"
    if dependencies is not None:
        file.write_text(json.dumps({"dependencies": dependencies, "fixes": []}))
    done = subprocess.run([sys.executable, DEPLOY / "audit.py", file], capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stdout) == (code, True), done.stdout
    in_ci = subprocess.run([*done.args, "--only-weak"], capture_output=True, text=True, check=False)
    assert (in_ci.returncode, said in in_ci.stdout) == (1 if code == 1 else 0, True), in_ci.stdout
