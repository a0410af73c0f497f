"""The files under deploy/ are what their programs accept, and fit each other.

No container engine and no cluster is needed: `kubectl kustomize` builds the overlays,
Kubernetes' own schemas judge the objects, Docker Compose's own parser reads
compose.yaml, hadolint the Dockerfile. What the commands of the images do is in
test_deploy_commands.py, what the S3 policies allow in test_deploy_s3.py.
"""

import configparser
import fnmatch
import functools
import importlib
import json
import os
import re
import shutil
import subprocess
import sys

import kubernetes_validate
import pytest
import yaml
from pydantic_settings import BaseSettings
from toolbox import programs, project

import odoo.addons
from odoo.tools import config

DEPLOY = project.ROOT / "deploy"
OVERLAYS = DEPLOY / "kubernetes" / "overlays"
ENVIRONMENTS = ("prod", "integration", "test", "dev")
#: `sleep` before the stop of a pod is a stable part of the API since 1.34
KUBERNETES = ("1.34", "1.37")
#: libpq's, https://www.postgresql.org/docs/current/libpq-envars.html
LIBPQ = {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE"}
MODULES = "cloud_platform_generic,monitoring_statsd"

if str(project.ROOT) not in odoo.addons.__path__:
    odoo.addons.__path__.append(str(project.ROOT))


def tool(name, *arguments, **variables):
    """Return what a program of the virtual environment prints."""
    if name == "docker-compose" and sys.version_info < (3, 11):
        pytest.skip("the wheel of docker-compose wants Python 3.11")
    program = shutil.which(name, path=f"{project.VENV / 'bin'}:{os.environ['PATH']}")
    assert program, f"{name} is missing: run scripts/setup"
    result = subprocess.run(
        [program, *map(str, arguments)],
        env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def env_file(path):
    """Return the variables of a file of NAME=value lines."""
    lines = [line for line in path.read_text().splitlines() if line.strip()]
    pairs = [line.split("=", 1) for line in lines if not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), path
    return dict(pairs)


@functools.cache
def compose():
    """compose.yaml as Docker Compose understands it, with passwords filled in."""
    example = env_file(DEPLOY / ".env.example")
    variables = {name: value or f"a-{name.lower()}" for name, value in example.items()}
    files = ("--file", DEPLOY / "compose.yaml", "--env-file", "/dev/null")
    return json.loads(
        tool("docker-compose", *files, "config", "--format", "json", **variables)
    )


@functools.cache
def overlay(environment):
    """The objects of an environment, as they would be applied."""
    text = tool("kubectl", "kustomize", OVERLAYS / environment)
    return list(yaml.safe_load_all(text))


def config_map(environment):
    [found] = [o for o in overlay(environment) if o["kind"] == "ConfigMap"]
    return found["data"]


def secret_names():
    return set(env_file(DEPLOY / "kubernetes" / "secrets.env.example"))


def pods(environment):
    """The templates of pods, by the name of their Deployment or Job."""
    return {
        found["metadata"]["name"]: found["spec"]["template"]["spec"]
        for found in overlay(environment)
        if found["kind"] in ("Deployment", "Job")
    }


def containers(environment):
    return [
        container
        for pod in pods(environment).values()
        for container in [*pod["containers"], *pod.get("initContainers", [])]
    ]


@functools.cache
def known_variables():
    """Those of the addons' settings, of Odoo's options and of PostgreSQL's library."""
    names = {option.env_name for option in config.options_index.values()} | LIBPQ
    for addon in project.addons():
        if not (project.ROOT / addon / "settings.py").exists():
            continue
        module = importlib.import_module(f"odoo.addons.{addon}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, BaseSettings):
                fields = value.model_fields.values()
                names |= {field.validation_alias for field in fields}
    return names - {""}


# The files, each by its own program


def test_every_yaml_and_json_file_can_be_read():
    paths = [path for path in DEPLOY.rglob("*") if path.suffix in (".yml", ".yaml")]
    assert len(paths) > 15
    for path in paths:
        assert list(yaml.safe_load_all(path.read_text())), path
    for path in DEPLOY.rglob("*.json"):
        json.loads(path.read_text())


def test_hadolint_accepts_the_dockerfile():
    tool("hadolint", DEPLOY / "Dockerfile")


def test_image_is_made_of_all_addons_and_little_else():
    """Docker's ignore file: the last rule that fits a path decides.

    https://docs.docker.com/build/concepts/context/#dockerignore-files
    """
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]

    def is_sent(path):
        sent = True
        for rule in rules:
            pattern = rule.removeprefix("!")
            for part in [path, *map(str, path.parents)][:-1]:
                name = str(part)
                if fnmatch.fnmatch(name, pattern) or fnmatch.fnmatch(
                    f"/{name}", pattern.replace("**/", "*/")
                ):
                    sent = rule.startswith("!")
        return sent

    root = project.ROOT.relative_to(project.ROOT)
    files = subprocess.run(
        ["git", "ls-files"],
        cwd=project.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    sent = {name for name in files if is_sent(root / name)}
    sources = set()
    for addon in project.addons():
        paths = {name for name in files if name.startswith(f"{addon}/")}
        sources |= {name for name in paths if "/tests/" not in name}
    others = {"LICENSE", "README.md", "pyproject.toml", "requirements.txt", "setup.py"}
    assert sent == sources | others | {"deploy/entrypoint.sh", "deploy/odoo.conf"}


def test_dockerfile_copies_what_is_there_and_is_not_root():
    text = (DEPLOY / "Dockerfile").read_text()
    for source in re.findall(r"^COPY (?:--chmod=\d+ )?(deploy/\S+)", text, re.M):
        assert (project.ROOT / source).is_file()
    assert os.access(DEPLOY / "entrypoint.sh", os.X_OK)
    last = text[text.rindex("FROM") :]
    assert re.findall(r"^USER (.*)", last, re.M)[-1] == "${UID}:${UID}"
    assert f"ARG UID={pods('prod')['odoo']['securityContext']['runAsUser']}\n" in last
    status = importlib.import_module("odoo.addons.monitoring_status.status")
    assert f"http://127.0.0.1:8069{status.LIVE}" in last
    # the same tag in all stages, and one of a day
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) == {"odoo:${ODOO_TAG}"}
    assert re.search(r"^ARG ODOO_TAG=19\.0-\d{8}$", text, re.M)
    # the libraries that setup.py wants, each in its range
    extras = re.search(r'"anthem": \["(.*)"\]', (project.ROOT / "setup.py").read_text())
    assert f"echo '{extras[1]}'" in text


def test_options_of_the_image_are_odoos():
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(DEPLOY / "odoo.conf")
    options = dict(parser["options"])
    assert set(options) <= set(config.options_index)
    loaded = options["server_wide_modules"].split(",")
    # the platform first, all others that need to be loaded before a database
    assert loaded[:3] == ["base", "web", "cloud_platform_generic"]
    assert set(project.SERVER_WIDE_MODULES) <= set(loaded)
    # below the only folder that can be written to
    assert options["data_dir"].startswith("/tmp/")


# Docker Compose


def test_compose_refuses_to_start_without_passwords():
    files = ("--file", DEPLOY / "compose.yaml", "--env-file", DEPLOY / ".env.example")
    with pytest.raises(AssertionError, match=r"see \.env\.example"):
        tool("docker-compose", *files, "config")


def test_no_file_holds_a_secret():
    for path in (DEPLOY / ".env.example", DEPLOY / "kubernetes/secrets.env.example"):
        values = env_file(path)
        secret = {n: v for n, v in values.items() if re.search("PASS|KEY|TOKEN|ID$", n)}
        assert secret
        assert not any(secret.values())
    for environment in ENVIRONMENTS:
        assert not [o for o in overlay(environment) if o["kind"] == "Secret"]
        assert not secret_names() & set(config_map(environment))
    text = (DEPLOY / "compose.yaml").read_text()
    for line in re.findall(r"^.*(?:PASSWORD|SECRET|ACCESS_KEY|AUTH).*$", text, re.M):
        assert "${" in line or "$$" in line, line


def test_front_ends_of_compose_have_no_volume_and_no_privilege():
    services = compose()["services"]
    ours = [s for s in services.values() if s["image"].startswith("odoo-stateless")]
    assert len(ours) == 3
    for service in ours:
        assert not service.get("volumes")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["tmpfs"][0].startswith("/tmp:mode=1777")
    stores = {"postgres", "redis", "s3", "prometheus", "grafana"}
    assert set(compose()["volumes"]) == stores
    for name, service in services.items():
        named = [v["source"] for v in service.get("volumes", []) if v["type"] != "bind"]
        assert named == ([name] if name in stores else [])


def test_files_that_compose_mounts_are_there():
    mounts = [
        mount
        for service in compose()["services"].values()
        for mount in service.get("volumes", [])
        if mount["type"] == "bind"
    ]
    assert len(mounts) >= 8
    for mount in mounts:
        assert os.path.exists(mount["source"]), mount
        assert mount["read_only"] is True
    shown = {
        os.path.basename(m["source"]) for m in mounts if "dashboards" in m["target"]
    }
    assert shown >= {path.name for path in (DEPLOY / "grafana").glob("*.json")}


def test_services_of_compose_find_each_other():
    services = compose()["services"]
    front_end = services["odoo-1"]["environment"]
    for variable in ("PGHOST", "ODOO_SESSION_REDIS_HOST", "STATSD_HOST"):
        assert front_end[variable] in services
    assert front_end["AWS_HOST"] == "http://s3:8080"
    assert "--addr :8080" in services["s3"]["command"][0]
    # statsd_exporter listens on 9125 by default, and is scraped on 9102
    assert front_end["STATSD_PORT"] == "9125"
    prometheus = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    [job] = prometheus["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["statsd-exporter:9102"]}]
    mount = services["statsd-exporter"]["volumes"][0]["target"]
    assert services["statsd-exporter"]["command"] == [
        f"--statsd.mapping-config={mount}"
    ]
    datasource = DEPLOY / "grafana/provisioning/datasources/prometheus.yml"
    [source] = yaml.safe_load(datasource.read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_nginx_gets_all_variables_of_its_template():
    template = (DEPLOY / "nginx/odoo.conf.template").read_text()
    nginx = compose()["services"]["nginx"]
    assert set(re.findall(r"\${(\w+)}", template)) <= set(nginx["environment"])
    assert nginx["environment"]["ODOO_LISTEN"] == "8080"
    assert nginx["ports"][0]["target"] == 8080
    front_ends = [name for name in compose()["services"] if name.startswith("odoo-")]
    for variable, port in (("ODOO_SERVERS", 8069), ("ODOO_WEBSOCKETS", 8072)):
        expected = " ".join(f"server {name}:{port};" for name in front_ends)
        assert nginx["environment"][variable] == expected


def test_promtool_accepts_the_configuration_of_prometheus(tmp_path):
    # beside each other, as compose.yaml mounts them
    for name in ("prometheus.yml", "alerts.yml"):
        shutil.copy(DEPLOY / "prometheus" / name, tmp_path)
    command = [programs.require("promtool"), "check", "config", "prometheus.yml"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "1 rule files" in result.stdout


# Kubernetes


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_objects_fit_the_schemas_of_kubernetes(environment, version):
    kinds = set()
    for found in overlay(environment):
        kubernetes_validate.validate(found, version, strict=True)
        kinds.add(found["kind"])
    assert kinds == {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "Job",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
    }


def test_schemas_find_a_mistake():
    [found] = [o for o in overlay("prod") if o["kind"] == "PodDisruptionBudget"]
    wrong = {**found, "spec": {**found["spec"], "maxUnavailble": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pods_keep_the_restricted_security_standard(environment):
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/"""
    assert set(pods(environment)) == {"odoo", "odoo-cron", "odoo-migrate"}
    for pod in pods(environment).values():
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == context["fsGroup"] > 0
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        # nothing that stays
        assert [set(v) for v in pod["volumes"]] == [{"name", "emptyDir"}]
    for container in containers(environment):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert [m["mountPath"] for m in container["volumeMounts"]] == ["/tmp"]
        assert container["resources"]["limits"]["memory"]
        assert container["resources"]["requests"]["cpu"]


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_objects_select_each_other(environment):
    found = {(o["kind"], o["metadata"]["name"]): o for o in overlay(environment)}
    namespaces = {o["metadata"]["namespace"] for o in found.values()}
    assert namespaces == {f"acme-odoo-{environment}"}
    server = found["Deployment", "odoo"]["spec"]
    labels = server["template"]["metadata"]["labels"].items()
    assert server["selector"]["matchLabels"].items() <= labels
    service = found["Service", "odoo"]["spec"]
    assert service["selector"].items() <= labels
    budget = found["PodDisruptionBudget", "odoo"]["spec"]
    assert budget["selector"]["matchLabels"].items() <= labels
    [container] = server["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": 8069, "websocket": 8072}
    assert {port["targetPort"] for port in service["ports"]} == set(ports)
    [rule] = found["Ingress", "odoo"]["spec"]["rules"]
    assert {
        path["path"]: path["backend"]["service"]["port"]["name"]
        for path in rule["http"]["paths"]
    } == {"/websocket": "websocket", "/": "http"}
    assert all(
        path["backend"]["service"]["name"] == "odoo" for path in rule["http"]["paths"]
    )
    scaler = found["HorizontalPodAutoscaler", "odoo"]["spec"]
    assert scaler["scaleTargetRef"]["name"] == "odoo"
    assert "replicas" not in server
    least = 2 if environment in ("prod", "integration") else 1
    assert scaler["minReplicas"] == least
    policy = found["NetworkPolicy", "odoo"]["spec"]
    for kind, name in (("Deployment", "odoo-cron"), ("Job", "odoo-migrate")):
        others = found[kind, name]["spec"]["template"]["metadata"]["labels"].items()
        assert policy["podSelector"]["matchLabels"].items() <= others
        # none of the front ends' traffic
        assert not service["selector"].items() <= others
    assert policy["podSelector"]["matchLabels"].items() <= labels
    # each port that Odoo asks for
    allowed = {port["port"] for rule in policy["egress"] for port in rule["ports"]}
    assert {53, 5432, 6379, 443} <= allowed
    if config_map(environment)["ODOO_STATSD"] == "1":
        assert 8125 in allowed


def test_release_applies_first_what_the_job_needs():
    readme = (DEPLOY / "README.md").read_text()
    [components] = re.findall(r"-l 'app.kubernetes.io/component in \((.*)\)'", readme)
    first = [
        found["kind"]
        for found in overlay("prod")
        if found["metadata"]["labels"].get("app.kubernetes.io/component")
        in components.split(", ")
    ]
    assert sorted(first) == ["ConfigMap", "Job"]


def test_job_that_fails_keeps_its_folder_for_the_next_try():
    """Contents of modules lie there until the song has moved them to the bucket."""
    pod = pods("prod")["odoo-migrate"]
    assert pod["restartPolicy"] == "OnFailure"


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_probes_ask_paths_that_are_answered(environment):
    status = importlib.import_module("odoo.addons.monitoring_status.status")
    timeout = importlib.import_module("odoo.addons.monitoring_status.settings")
    default = timeout.MonitoringStatusSettings.model_fields["timeout_seconds"].default
    asked = set()
    for container in containers(environment):
        for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
            probe = container.get(kind)
            if not probe:
                continue
            path = probe["httpGet"]["path"]
            asked.add((kind, path))
            assert path == (status.READY if kind == "readinessProbe" else status.LIVE)
            names = [port["name"] for port in container["ports"]]
            assert probe["httpGet"]["port"] in names
            # monitoring_status says so in its readme
            assert probe["timeoutSeconds"] > 2 * default
            if kind == "livenessProbe":
                # after the master had its time to replace a worker that hangs
                seconds = probe["periodSeconds"] * probe["failureThreshold"]
                assert seconds > config.options_index["limit_time_real"].my_default
    assert len(asked) == 3
    [server] = pods(environment)["odoo"]["containers"]
    # busy workers keep a probe waiting, in all pods at once: test_front_ends.py
    ports = {kind: server[kind]["httpGet"]["port"] for kind, _path in asked}
    assert ports["startupProbe"] == "http"
    assert ports["livenessProbe"] == ports["readinessProbe"] == "websocket"
    [check] = pods(environment)["odoo"]["initContainers"]
    assert check["args"] == ["check"]
    assert server["args"] == ["serve"]
    pause = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pods(environment)["odoo"]["terminationGracePeriodSeconds"]
    assert grace >= pause + config.options_index["limit_time_cpu"].my_default


# Variables


def test_every_variable_is_one_of_the_addons_of_odoo_or_of_postgresql():
    used = set()
    for environment in ENVIRONMENTS:
        used |= set(config_map(environment))
        for container in containers(environment):
            used |= {variable["name"] for variable in container.get("env", [])}
    used |= secret_names()
    for service in compose()["services"].values():
        if service["image"].startswith("odoo-stateless"):
            used |= set(service["environment"])
    assert len(used) > 25
    assert used <= known_variables()


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_pods_get_the_variables_of_their_environment(environment):
    [found] = [o for o in overlay(environment) if o["kind"] == "ConfigMap"]
    expected = [
        # the name changes with the variables, so that a change starts new pods
        {"configMapRef": {"name": found["metadata"]["name"]}},
        {"secretRef": {"name": "odoo"}},
    ]
    assert re.fullmatch(r"odoo-\w{10}", found["metadata"]["name"])
    for container in containers(environment):
        assert container["envFrom"] == expected
    assert found["data"]["RUNNING_ENV"] == environment
