"""The files of cluster/, as far as they can be held against what reads them without a cloud."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from shutil import which
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from plgan_tune.backends.ray.autoscaler import Growth, growth_of
from plgan_tune.backends.ray.connect import trials_at_a_time
from plgan_tune.study.trial_resources import TrialResources

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = ROOT / "cluster"
AUTOSCALED = ["aws.yaml", "gcp.yaml", "on-prem.yaml"]
SCHEMA = yaml.safe_load(Path(__file__).with_name("rayjob.schema.yaml").read_text())
CRD = Path(os.environ.get("PLGAN_TUNE_RAYJOB_CRD", ROOT.parent / "shared" / "kuberay" / "ray.io_rayjobs.yaml"))


def loaded(name: str) -> dict[str, Any]:
    """As Ray reads it."""
    content: dict[str, Any] = yaml.safe_load((CLUSTER / name).read_text())
    return content


def kube() -> tuple[dict[str, Any], dict[str, Any]]:
    """The service account and the RayJob."""
    account, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    return account, job


def test_every_file_has_its_test() -> None:
    known = {*AUTOSCALED, "kuberay.yaml", "slurm.sh", "Dockerfile", "constraints.txt", "README.md"}
    assert {path.name for path in CLUSTER.iterdir()} == known


# Ray's autoscaler


@pytest.mark.parametrize("name", AUTOSCALED)
def test_an_autoscaler_s_file_passes_ray_s_own_validation(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415 - seconds

    validate_config(prepare_config(loaded(name)))


@pytest.mark.parametrize("name", AUTOSCALED)
def test_the_token_reaches_every_node(name: str) -> None:
    config = loaded(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    on = "RAY_AUTH_MODE=token"
    if "docker" in config:
        assert any(on in option for option in config["docker"]["run_options"])
    else:
        commands = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
        assert any(on in command and "/bin/activate" in command for command in config["setup_commands"])
        assert all("/bin/activate" in command for command in commands)


@pytest.mark.parametrize("name", AUTOSCALED)
def test_the_dashboard_listens_on_loopback(name: str) -> None:
    (start,) = [command for command in loaded(name)["head_start_ray_commands"] if "--head" in command]
    assert "--dashboard-host=127.0.0.1" in start


@pytest.mark.parametrize("name", AUTOSCALED)
def test_what_a_file_mounts_is_here(name: str) -> None:
    mounted = [local for local in loaded(name)["file_mounts"].values() if not local.startswith("~")]
    assert mounted
    assert all((ROOT / local).exists() for local in mounted)


@pytest.mark.slow
def test_what_a_file_mounts_can_be_installed(tmp_path: Path) -> None:
    """By the setup command, with the files where it finds them."""
    for remote, local in loaded("on-prem.yaml")["file_mounts"].items():
        if not local.startswith("~"):
            (tmp_path / remote.removeprefix("~/plgan-tune/")).symlink_to(ROOT / local)
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(tmp_path / "wheel"), str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "wheel").glob("plgan_tune-*.whl"))) == 1


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_gpu_nodes_come_and_go_and_the_head_trains_nothing(name: str) -> None:
    config = loaded(name)
    gpu = config["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert gpu["max_workers"] == config["max_workers"] > 0
    assert config["available_node_types"]["head"]["resources"] == {"CPU": 0}
    growth = growth_of(config)
    assert growth == Growth((gpu["resources"],) * gpu["max_workers"], config["max_workers"])
    assert trials_at_a_time(TrialResources(1, 1, 1), [{"CPU": 0}], growth) == config["max_workers"]


@pytest.mark.slow
def test_ray_starts_the_nodes_of_the_aws_file(tmp_path: Path) -> None:
    """Ray's own launcher on moto's imitation of AWS: the head on demand, GPU nodes on spot, only SSH from outside."""
    script = tmp_path / "launch.py"
    script.write_text(LAUNCH)
    (tmp_path / ".ssh").mkdir()
    of_test = {"HOME": str(tmp_path), "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    of_moto = {"MOTO_EC2_LOAD_DEFAULT_AMIS": "true", "MOTO_IAM_LOAD_MANAGED_POLICIES": "true"}
    done = subprocess.run(
        [sys.executable, str(script), str(CLUSTER / "aws.yaml")],
        env={**os.environ, **of_test, **of_moto},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "started m6i.large None" in done.stdout
    assert "started g5.xlarge spot" in done.stdout
    assert re.findall(r"open from outside (\S+)", done.stdout) == ["22"]


LAUNCH = """
import sys, boto3, yaml
from moto import mock_aws
from ray.autoscaler._private.util import prepare_config

with mock_aws():
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

    config = prepare_config(yaml.safe_load(open(sys.argv[1])))
    ec2 = boto3.client("ec2", config["provider"]["region"])
    boto3.client("iam").create_instance_profile(InstanceProfileName="plgan-tune-node")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    for kind in config["available_node_types"].values():
        kind["node_config"]["ImageId"] = image
    config = bootstrap_aws(config)
    provider = AWSNodeProvider(config["provider"], config["cluster_name"])
    for name, kind in config["available_node_types"].items():
        tags = {"ray-node-type": "head" if name == "head" else "worker", "ray-node-name": name}
        provider.create_node(kind["node_config"], tags | {"ray-user-node-type": name, "ray-launch-config": "x"}, 1)
    for reservation in ec2.describe_instances()["Reservations"]:
        for instance in reservation["Instances"]:
            print("started", instance["InstanceType"], instance.get("InstanceLifecycle"))
    for group in ec2.describe_security_groups()["SecurityGroups"]:
        for rule in group["IpPermissions"]:
            if rule["IpRanges"]:
                print("open from outside", rule["FromPort"])
"""


# KubeRay


def strict(schema: Any) -> Any:
    """The schema as Kubernetes applies it: a field that it does not name is refused."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields")
    parts = {key: strict(part) for key, part in schema.items()}
    return {"additionalProperties": False, **parts} if closed else parts


def broken_rules(schema: Any, job: Any) -> list[str]:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - a package of the extra `dev`

    return [f"{list(error.path)}: {error.message}" for error in Draft202012Validator(schema).iter_errors(job)]


def test_the_rayjob_passes_the_schema() -> None:
    assert broken_rules(SCHEMA, kube()[1]) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("autoscalerOption", {}, "'autoscalerOption' was unexpected"),
        ("rayVersion", 2.6, "2.6 is not of type 'string'"),
        ("authOptions", {"mode": "tokens"}, "'tokens' is not one of"),
        ("workerGroupSpecs", [{"groupName": "gpu", "minReplicas": 0, "maxReplicas": 4}], "'template' is a required"),
    ],
)
def test_a_rayjob_with_a_mistake_does_not(key: str, value: object, said: str) -> None:
    _, job = kube()
    job["spec"]["rayClusterSpec"][key] = value
    (rule,) = broken_rules(SCHEMA, job)
    assert said in rule


def test_the_rayjob_and_the_schema_pass_kuberay_s_own() -> None:
    if not CRD.is_file():
        pytest.skip(
            "needs KubeRay's ray-operator/config/crd/bases/ray.io_rayjobs.yaml (v1.7.0) in ../shared/kuberay/, or "
            "where PLGAN_TUNE_RAYJOB_CRD says; no package registry has it"
        )
    _, job = kube()
    definition = yaml.load(CRD.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    (version,) = [one for one in definition["spec"]["versions"] if f"ray.io/{one['name']}" == job["apiVersion"]]
    schema = strict(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {}  # of every Kubernetes object, and not of the CRD
    assert broken_rules(schema, job) == []
    assert unlike(SCHEMA["properties"]["spec"], schema["properties"]["spec"], "spec") == []


def unlike(part: Any, whole: Any, path: str) -> list[str]:
    """Where the test's schema says of a field what KubeRay's does not: its type, its values, what it requires."""
    part = SCHEMA["$defs"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part
    if whole.get("x-kubernetes-int-or-string"):
        return []
    told = [path for key in ("type", "enum", "required") if part.get(key) != whole.get(key)]
    for name, field in part.get("properties", {}).items():
        told += unlike(field, whole["properties"][name], f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if isinstance(part.get(key), dict):
            told += unlike(part[key], whole[key], f"{path}.{key}")
    return told


def test_the_rayjob_uses_its_account_and_kuberay_s_token() -> None:
    account, job = kube()
    assert (account["kind"], job["kind"]) == ("ServiceAccount", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    assert {pod["spec"]["serviceAccountName"] for pod in pods} == {account["metadata"]["name"]}
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["enableInTreeAutoscaling"] is True
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    (gpu,) = cluster["workerGroupSpecs"]
    concurrent = re.search(r"search\.concurrent=(\d+)", job["spec"]["entrypoint"])
    assert concurrent
    assert int(concurrent[1]) == gpu["maxReplicas"]


# All of them


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml", "kuberay.yaml"])
def test_a_cloud_s_file_names_the_ray_of_the_constraints(name: str) -> None:
    (pinned,) = re.findall(r"^ray==(\S+)$", (CLUSTER / "constraints.txt").read_text(), re.MULTILINE)
    named = re.findall(r"(?:rayproject/ray:|rayVersion: )(\d+\.\d+\.\d+)", (CLUSTER / name).read_text())
    assert named
    assert set(named) == {pinned}


def test_the_constraints_pin_every_dependency_within_its_bounds() -> None:
    lines = [line for line in (CLUSTER / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    pinned = {name.lower(): version for name, _, version in (line.partition("==") for line in lines)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["cluster"], *extras["s3"], *extras["gs"]]
    wanted = [Requirement(text) for text in asked]
    assert wanted
    assert [str(each) for each in wanted if pinned.get(each.name, "0") not in each.specifier] == []


def test_no_file_holds_a_credential() -> None:
    key = r"AKIA[0-9A-Z]{16}|BEGIN [A-Z ]*PRIVATE KEY"
    looks_secret = re.compile(rf"{key}|(secret|password|token)\w*[=:] *[\"']?[\w/+]{{20,}}", re.IGNORECASE)
    texts = {path.name: path.read_text() for path in CLUSTER.iterdir()}
    assert texts
    assert {name for name, text in texts.items() if looks_secret.search(text)} == set()


def tool(name: str) -> str:
    """A program that a package of the extra `dev` brings."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        pytest.skip(f"needs {name}, which the extra `dev` installs")
    return str(path)


def test_slurm_sh_passes_shellcheck() -> None:
    done = subprocess.run([tool("shellcheck"), str(CLUSTER / "slurm.sh")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def unit() -> str:
    """What starts a machine's Ray again, as the README prints it."""
    (text,) = re.findall(r"```ini\n(.*?)```", (CLUSTER / "README.md").read_text(), flags=re.DOTALL)
    return str(text)


def test_the_unit_passes_systemd_s_own_check(tmp_path: Path) -> None:
    if which("systemd-analyze") is None:
        pytest.skip("needs systemd-analyze, of systemd")
    file = tmp_path / "ray.service"
    file.write_text(unit().replace("/home/me/plgan-env/bin/ray", sys.executable))  # it must be there
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_unit_joins_with_the_token_and_starts_ray_again() -> None:
    head = loaded("on-prem.yaml")["provider"]["head_ip"]
    lines = unit().splitlines()
    assert f"ExecStart=/home/me/plgan-env/bin/ray start --address={head}:6379 --block" in lines
    assert "Restart=always" in lines
    (environment,) = [line.partition("=")[2].split() for line in lines if line.startswith("Environment=")]
    assert {"RAY_AUTH_MODE=token", "RAY_JOB_STOP_WAIT_TIME_S=60"} <= set(environment)
    assert {"User=me", "WorkingDirectory=~"} <= set(lines)  # the search's command names its space file from there
    assert loaded("on-prem.yaml")["auth"]["ssh_user"] == "me"


def test_the_dockerfile_passes_hadolint() -> None:
    done = subprocess.run([tool("hadolint"), str(CLUSTER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
