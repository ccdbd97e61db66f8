"""`check.py --tools DIR [--write]`: everything that can be known of helm/ and deploy/ without a cluster. Started by check.sh.

Elsewhere: what must hold of rendered objects (`chart`), wrong values (`refused`), keys of the configuration (`keys`).
"""

import argparse
import copy
import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor

import chart
import keys as configuration
import kubernetes_validate
import kubernetes_validate.utils
import refused
import yaml

TOP = pathlib.Path(__file__).resolve().parents[2]
CHART = TOP / "helm/carillon"
DEPLOY = TOP / "deploy"
# The oldest Kubernetes that Chart.yaml admits, and the newest whose schemas we have.
VERSIONS = ("1.27", "1.37")
# More exposure than this (of 10) means that something was opened (`systemd-analyze security`).
EXPOSURE_MAX = "2.0"
MARKS = ("<!-- values: written by tests/deploy/check.sh --write -->\n", "<!-- end of values -->\n")

# The validator reads megabytes of schemas for each object.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)


class Checks:
    """Findings by the name of what was looked at."""

    def __init__(self, tools: pathlib.Path):
        self.tools = tools
        self.bin = tools / "venv/bin"
        self.keys = configuration.known(TOP)
        self.findings = []
        self.done = []

    def report(self, what, findings):
        self.done.append(what)
        self.findings.extend(f"{what}: {finding}" for finding in findings)

    def run(self, *command, text=None, cwd=None):
        """Runs it; out: whether it succeeded, and all that it said."""
        home = str(self.tools / "home")
        env = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": home, "KUBECONFIG": "/nonexistent"}
        done = subprocess.run([*map(str, command)], input=text, text=True, capture_output=True, cwd=cwd, env=env, check=False)
        return done.returncode == 0, done.stdout, done.stdout + done.stderr

    def template(self, *values, text=None):
        files = [part for file in values for part in ("--values", file)]
        return self.run(self.tools / "helm", "template", "exchange", CHART, "--namespace", "telephony", *files, text=text)


def merged(base, over):
    """Values as helm merges them."""
    result = copy.deepcopy(base)
    for key, value in over.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and isinstance(result.get(key), dict) else value
    return result


def defaults():
    return yaml.safe_load((CHART / "values.yaml").read_text())


def value_files():
    return sorted((CHART / "ci").glob("*-values.yaml"))


def check_rendering(checks):
    """Each file of values: lint, Kubernetes' schemas, our own conditions."""
    files = value_files()
    names = {file.name.removesuffix("-values.yaml") for file in files}
    checks.report("ci", [f"{name}: only a file or only in chart.KINDS" for name in names ^ chart.KINDS.keys()])

    def both(file):
        lint = checks.run(checks.tools / "helm", "lint", "--strict", CHART, "--values", file)
        return lint, checks.template(file)

    with ThreadPoolExecutor() as pool:
        for file, (lint, rendered) in zip(files, pool.map(both, files), strict=True):
            what = f"ci/{file.name}"
            checks.report(f"{what}, lint", [] if lint[0] else [lint[2]])
            if not rendered[0]:
                checks.report(what, [rendered[2]])
                continue
            objects = [one for one in yaml.safe_load_all(rendered[1]) if one]
            values = merged(defaults(), yaml.safe_load(file.read_text()))
            checks.report(f"{what}, schemas", [finding for one in objects for finding in by_schema(one)])
            checks.report(what, chart.look(file.name.removesuffix("-values.yaml"), objects, values, checks.keys))


def by_schema(one):
    name = f"{one['kind']}/{one['metadata']['name']}"
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(one, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            yield f"{name}, Kubernetes {version}: {'.'.join(map(str, error.path))}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            if one["kind"] not in chart.CUSTOM:
                yield f"{name}: Kubernetes {version} knows no {one['apiVersion']} {one['kind']}"


def check_refusals(checks):
    """Wrong values are refused by their name, and nothing else is complained about."""
    minimal = yaml.safe_load((CHART / "ci/minimal-values.yaml").read_text())
    cases = [*refused.BY_SCHEMA, *refused.BY_CHECKS]

    def attempt(case):
        values, name = case
        return checks.template("-", text=yaml.safe_dump(merged(minimal, values)))

    with ThreadPoolExecutor() as pool:
        for (values, name), (taken, _, said) in zip(cases, pool.map(attempt, cases), strict=True):
            findings = []
            if taken:
                findings.append("is taken")
            elif name not in said:
                findings.append(f"the refusal does not show {name}: {said}")
            elif (values, name) in refused.BY_CHECKS and "1 wrong in the values" not in said:
                findings.append(f"more is complained about: {said}")
            checks.report(f"values {json.dumps(values)}", findings)


def check_changes(checks):
    """Pods come anew when their configuration changes, and only then; the notes warn where they must."""
    minimal = CHART / "ci/minimal-values.yaml"

    def sums(text):
        taken, rendered, said = checks.template(minimal, "-", text=text)
        if not taken:
            raise SystemExit(said)
        pods = [one for one in yaml.safe_load_all(rendered) if one and one["kind"] in chart.WORKLOADS]
        return {
            one["metadata"]["labels"]["app.kubernetes.io/component"]: one["spec"]["template"]["metadata"]["annotations"]["checksum/config"]
            for one in pods
        }

    before, after = sums("{}"), sums("settings: {sip: {ring_seconds: 31}}")
    changed = {role for role in before if before[role] != after[role]}
    checks.report("a changed setting", [] if changed == {"proxy"} else [f"pods of {changed} come anew, wanted those of proxy"])

    for name, wanted, unwanted in (
        ("trial", ["FOR TRIALS ONLY: etcd and PostgreSQL", "FOR TRIALS ONLY: peers.plain", "within 20 s"], ["custom.metrics"]),
        ("minimal", ["_sip._udp.example.com.", "enforce=privileged", "No node knows its zone", "in plain HTTP"], ["FOR TRIALS ONLY", "by TLS"]),
        ("daemonset", ["kubectl drain` leaves pods of a DaemonSet"], ["No node knows its zone"]),
        ("everything", ["custom.metrics.k8s.io", "9500 of proxies, 9501 of relays", "within 300 s", "backend-protocol: HTTPS"], ["settings.api.behind"]),
        ("tls", ["by TLS; it takes certificates of administrators"], ["in plain HTTP", "backend-protocol"]),
    ):
        command = ["install", "exchange", CHART, "--namespace", "telephony", "--dry-run=client"]
        done, _, said = checks.run(checks.tools / "helm", *command, "--values", CHART / f"ci/{name}-values.yaml")
        notes = said.partition("\nNOTES:\n")[2]
        findings = [] if done else [said]
        findings += [f"does not say {text!r}" for text in wanted if text not in notes]
        findings += [f"says {text!r}" for text in unwanted if text in notes]
        checks.report(f"notes, {name}", findings)


def check_values(checks, write):
    """Every value is described, has a default and stands in the README's table."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    findings, rows = [], []

    def resolve(node):
        name = node.get("$ref")
        return {**schema["definitions"][name.rsplit("/", 1)[1]], **node} if name else node

    def walk(node, value, path, has_default):
        for key, own in node["properties"].items():
            own, here = resolve(own), f"{path}{key}"
            if not own.get("description"):
                findings.append(f"values.schema.json: {here} has no description")
            inner = own.get("items", own) if own.get("type") == "array" else own
            if inner.get("properties") and inner.get("additionalProperties") is not False:
                findings.append(f"values.schema.json: {here} admits unknown keys")
            # Keys of the configuration have the program's defaults; those of a toleration are Kubernetes'.
            given = isinstance(value, dict) and key in value
            if has_default and not given and key != "global":
                findings.append(f"values.yaml: {here} is missing")
            if has_default and given and key not in node.get("required", []):
                findings.append(f"values.schema.json: {here} is not required, so that null would take it away")
            default = value[key] if given else None
            if own.get("$ref") == "#/definitions/secretKey":
                rows.append((here, own, default))
            elif own.get("properties"):
                open_keys = here.startswith("settings.") or here.endswith((".requests", ".limits"))
                if here.endswith((".requests", ".limits")):
                    rows.append((here, own, default))
                walk(own, default, f"{here}.", has_default and not open_keys)
            else:
                if key == "enabled":
                    own = {**own, "description": f"{node['description']} {own['description']}"}
                rows.append((here, own, default))
                if own.get("type") == "array" and resolve(own["items"]).get("properties"):
                    walk(resolve(own["items"]), None, f"{here}[].", False)
        for key in value if isinstance(value, dict) else []:
            if key not in node["properties"]:
                findings.append(f"values.yaml: {path}{key} is not in values.schema.json")

    walk(schema, defaults(), "", True)
    if schema.get("additionalProperties") is not False:
        findings.append("values.schema.json admits unknown keys at the top")
    checks.report("values", findings)

    lines = ["| value | default | meaning |\n", "| --- | --- | --- |\n"]
    lines += [f"| `{path}` | {shown(default)} | {own['description'].replace('|', '/')} |\n" for path, own, default in rows if in_table(path)]
    readme = CHART / "README.md"
    text = readme.read_text()
    head, rest = text.split(MARKS[0])
    tail = rest.split(MARKS[1])[1]
    wanted = f"{head}{MARKS[0]}\n{''.join(lines)}\n{MARKS[1]}{tail}"
    if write:
        readme.write_text(wanted)
    elif text != wanted:
        checks.report("helm/carillon/README.md", ["its table of values is old; run tests/deploy/check.sh --write"])


def in_table(path):
    """Inner parts that Kubernetes explains are left out."""
    inner = ("resources.requests.", "resources.limits.", ".tolerations[]", "From[].", "parentRefs[].")
    return not any(part in path for part in inner) and path != "global"


def shown(default):
    if default is None:
        return ""
    text = json.dumps(default)
    return f"`{text}`"


def check_version(checks):
    """Chart and program are of one version."""
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    program = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["package"]["version"]
    wrong = [f"{key} is {about[key]}, the program's {program}" for key in ("version", "appVersion") if about[key] != program]
    checks.report("Chart.yaml", wrong)


def check_container(checks):
    done, _, said = checks.run(checks.bin / "hadolint", "--failure-threshold", "info", DEPLOY / "Containerfile")
    text = (DEPLOY / "Containerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    findings = [] if done else [said]
    findings += [f"does not have {part}" for part in ("cargo build --locked --release",) if part not in text]
    findings += [f"the last stage does not have {part}" for part in ("distroless/cc", "USER 65532", "STOPSIGNAL SIGTERM") if part not in last]
    findings += ["the last stage runs commands"] if re.search(r"^RUN ", last, re.MULTILINE) else []
    toolchain = tomllib.loads((TOP / "Cargo.toml").read_text())["workspace"]["package"]["rust-version"]
    if f"/rust:{toolchain}-" not in text:
        findings.append(f"is not built by Rust {toolchain}")
    checks.report("Containerfile", findings)


def check_compose(checks):
    file = DEPLOY / "compose.yaml"
    done, _, said = checks.run(checks.bin / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", file)
    compose = yaml.safe_load(file.read_text())
    config = tomllib.loads(compose["configs"]["node"]["content"])
    findings = [] if done else [said]
    findings += [f"{key} is no key of the configuration" for key in configuration.unknown(config, checks.keys)]
    for name, service in compose["services"].items():
        findings += [f"{name}: {one} overrides no key" for one in configuration.variables(service.get("environment", {}), checks.keys)]
        if not name.startswith("node-"):
            continue
        if not (service["read_only"] and service["cap_drop"] == ["ALL"] and not service["user"].startswith("0")):
            findings.append(f"{name} may do too much")
        if int(service["stop_grace_period"].removesuffix("s")) <= config["cluster"]["drain_seconds"]:
            findings.append(f"{name} is killed before its drain is over")
        address = service["networks"]["carillon"]["ipv4_address"]
        told = [value for key, value in service["environment"].items() if key != "CARILLON__NODE__NAME"]
        findings += [f"{name}: {value} is not at {address}" for value in told if set(re.findall(r"172[.\d]+", value)) != {address}]
    checks.report("compose.yaml", findings)


def check_three_nodes(checks):
    seen, findings = {}, []
    for file in sorted((DEPLOY / "three-nodes").glob("*.toml")):
        config = tomllib.loads(file.read_text())
        findings += [f"{file.name}: {key} is no key of the configuration" for key in configuration.unknown(config, checks.keys)]
        own = (config["node"]["id"], config["node"]["name"], config["node"]["data"], config["cluster"]["listen"])
        shared = (config["cluster"]["etcd"], config["store"], config["cluster"]["drain_seconds"])
        if config["node"]["name"] != file.stem:
            findings.append(f"{file.name} is of node {config['node']['name']}")
        host = config["cluster"]["listen"].rpartition(":")[0]
        heard = [*config["sip"]["listen"], config["operate"]["listen"], config["api"]["listen"], config["media"]["address"]]
        findings += [f"{file.name}: {one} is not at {host}" for one in heard if host not in one.split(":")]
        seen[own] = shared
    if len(seen) != 3 or any(len({own[part] for own in seen}) != 3 for part in range(4)):
        findings.append(f"there are not three different nodes: {list(seen)}")
    if any(shared != next(iter(seen.values())) for shared in seen.values()):
        findings.append("they do not share one etcd, one database and one key")
    checks.report("three-nodes", findings)
    scripts = [*TOP.glob("deploy/**/*.sh"), TOP / "tests/deploy/check.sh"]
    done, _, said = checks.run(checks.bin / "shellcheck", *scripts)
    checks.report("scripts", [] if done else [said])


def check_unit(checks):
    text = (DEPLOY / "carillon.service").read_text()
    unit = dict(re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE))
    findings = []
    # The default of cluster.drain_seconds.
    if int(unit["TimeoutStopSec"]) <= 120:
        findings.append("is killed before its drain is over")
    if unit["CapabilityBoundingSet"] or unit["AmbientCapabilities"] or unit["User"] == "root":
        findings.append("may do too much")
    if analyze := shutil.which("systemd-analyze"):
        with tempfile.TemporaryDirectory() as folder:
            # The program need not be installed here.
            copy_of = pathlib.Path(folder) / "carillon.service"
            copy_of.write_text(text.replace("/usr/local/bin/carillon", "/bin/true"))
            for command in (["verify"], ["security", "--offline=yes", f"--threshold={int(float(EXPOSURE_MAX) * 10)}"]):
                done, _, said = checks.run(analyze, *command, copy_of)
                # What it does not know it only warns of.
                if not done or (command == ["verify"] and said.strip()):
                    findings.append(said)
    else:
        print("systemd-analyze is not here; the unit is only read")
    checks.report("carillon.service", findings)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tools", type=pathlib.Path, required=True)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    checks = Checks(arguments.tools.resolve())
    check_values(checks, arguments.write)
    for check in (
        check_version, check_rendering, check_refusals, check_changes, check_container, check_compose, check_three_nodes, check_unit,
    ):  # fmt: skip
        try:
            check(checks)
        except (KeyError, TypeError, ValueError) as error:
            checks.report(check.__name__, [f"something is not there or not readable: {error!r}"])
    for finding in checks.findings:
        print(finding)
    print(f"{len(checks.done)} checks, {len(checks.findings)} findings")
    sys.exit(1 if checks.findings else 0)


if __name__ == "__main__":
    main()
