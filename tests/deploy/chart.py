"""What must hold of the objects that the chart renders, whatever the values.

`look(objects, values, keys)` lists what is wrong. Elsewhere: rendering, Kubernetes' own schemas (`check.py`).
"""

import tomllib
from collections import Counter

import keys as configuration

WORKLOADS = ("StatefulSet", "DaemonSet", "Deployment")
ON_HOSTS = ("proxy", "relay")
# Kinds of others, whose schemas nobody brings along: what must be there, checked by `custom`.
CUSTOM = {"ServiceMonitor", "Certificate", "HTTPRoute"}
# Nothing may grant rights, and secrets are the operator's.
FORBIDDEN = {"Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "Secret"}
WRITABLE = {"/var/lib/carillon", "/var/lib/carillon/files", "/data", "/var/run/postgresql", "/tmp"}
# What a file of values is there for, so that no condition is met by nothing.
KINDS = {
    "minimal": {"StatefulSet": 2, "Deployment": 2, "ConfigMap": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 4, "Service": 4},
    "trial": {"StatefulSet": 4, "Deployment": 2, "ConfigMap": 4, "PodDisruptionBudget": 6, "NetworkPolicy": 6, "Service": 6},
    "pods-only": {"StatefulSet": 4, "Deployment": 1, "ConfigMap": 3, "PodDisruptionBudget": 5, "Service": 5},
    "daemonset": {"DaemonSet": 2, "Deployment": 2, "ConfigMap": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 4, "Service": 4},
    "statefulset-zones": {
        "StatefulSet": 6, "Deployment": 6, "ConfigMap": 12, "PodDisruptionBudget": 4, "NetworkPolicy": 4, "Service": 4,
        "HorizontalPodAutoscaler": 3,
    },
    "tls": {
        "StatefulSet": 2, "Deployment": 2, "ConfigMap": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 4, "Service": 4,
        "Certificate": 1,
    },
    "everything": {
        "StatefulSet": 2, "Deployment": 2, "ConfigMap": 4, "PodDisruptionBudget": 4, "NetworkPolicy": 4, "Service": 4,
        "HorizontalPodAutoscaler": 2, "Certificate": 1, "ServiceMonitor": 1, "Ingress": 1, "HTTPRoute": 1,
    },
}  # fmt: skip


def look(name: str, objects: list[dict], values: dict, keys: dict[str, set[str]]) -> list[str]:
    """All that is wrong with the objects of one file of values."""
    wrong = []
    counted = Counter(one["kind"] for one in objects)
    accounts = counted.pop("ServiceAccount", 0)
    if counted != KINDS[name] or accounts != int(values["serviceAccount"]["create"]):
        wrong.append(f"there are {dict(counted)} and {accounts} ServiceAccounts, wanted {KINDS[name]}")
    for identity, times in Counter((one["kind"], one["metadata"]["name"]) for one in objects).items():
        if times > 1:
            wrong.append(f"{identity}: {times} of that name")
    world = World(objects, values, keys)
    for one in objects:
        where = f"{one['kind']}/{one['metadata']['name']}"
        try:
            wrong.extend(f"{where}: {what}" for what in world.check(one))
        except (KeyError, TypeError, ValueError) as error:
            wrong.append(f"{where}: is not as it should be: {error!r}")
    return wrong


def selects(selector: dict, labels: dict) -> bool:
    """Whether matchLabels fit."""
    return all(labels.get(key) == value for key, value in selector.items())


class World:
    """The objects of one rendering, as they refer to each other."""

    def __init__(self, objects, values, keys):
        self.values = values
        self.keys = keys
        self.by_kind = {}
        for one in objects:
            self.by_kind.setdefault(one["kind"], []).append(one)
        self.pods = [one["spec"]["template"] for kind in WORKLOADS for one in self.by_kind.get(kind, [])]

    def all(self, kind):
        return self.by_kind.get(kind, [])

    def check(self, one):
        kind = one["kind"]
        if kind in FORBIDDEN:
            yield "the chart must make none"
        if one["metadata"].get("namespace") != "telephony":
            yield "is not in the release's namespace"
        if kind in WORKLOADS:
            yield from self.workload(one)
        elif kind in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = one["spec"].get("selector") or one["spec"]["podSelector"]
            if not any(selects(selector["matchLabels"], pod["metadata"]["labels"]) for pod in self.pods):
                yield "selects no pod of ours"
            if kind == "NetworkPolicy":
                yield from self.policy(one)
        elif kind == "Service":
            yield from self.service(one)
        elif kind == "ServiceAccount" and one.get("automountServiceAccountToken") is not False:
            yield "gives its token away"
        elif kind == "HorizontalPodAutoscaler":
            target = one["spec"]["scaleTargetRef"]["name"]
            deployments = [it for it in self.all("Deployment") if it["metadata"]["name"] == target]
            if [it["spec"].get("replicas") for it in deployments] != [None]:
                yield f"its target {target} is not there, or has a number of its own"
        elif kind == "ConfigMap":
            yield from self.config(one)
        elif kind in CUSTOM or kind == "Ingress":
            yield from self.custom(one)

    def workload(self, one):
        kind, spec = one["kind"], one["spec"]
        pod = spec["template"]
        labels = pod["metadata"]["labels"]
        role = labels["app.kubernetes.io/component"]
        if not selects(spec["selector"]["matchLabels"], labels):
            yield "does not select its own pods"
        others = [it for it in self.pods if it is not pod and selects(spec["selector"]["matchLabels"], it["metadata"]["labels"])]
        if others:
            yield "selects pods of another workload"
        budgets = [it for it in self.all("PodDisruptionBudget") if selects(it["spec"]["selector"]["matchLabels"], labels)]
        if len(budgets) != 1:
            yield f"{len(budgets)} PodDisruptionBudgets, wanted one"
        elif (kind == "DaemonSet") == ("maxUnavailable" in budgets[0]["spec"]):
            yield "its PodDisruptionBudget cannot be counted for this kind"
        if self.values["networkPolicy"]["enabled"]:
            policies = [it for it in self.all("NetworkPolicy") if selects(it["spec"]["podSelector"]["matchLabels"], labels)]
            if len(policies) != 1:
                yield f"{len(policies)} NetworkPolicies, wanted one"
        scaled = any(it["spec"]["scaleTargetRef"]["name"] == one["metadata"]["name"] for it in self.all("HorizontalPodAutoscaler"))
        if kind != "DaemonSet" and ("replicas" in spec) == scaled:
            yield "says how many pods and is scaled, or neither"
        yield from self.pod(pod["spec"], role, kind)
        if role in ("proxy", "relay", "as", "portal"):
            yield from self.node(pod, role, kind)

    def pod(self, pod, role, kind):
        """What holds of trial databases, too."""
        if pod.get("automountServiceAccountToken") is not False:
            yield "has a token"
        if pod.get("enableServiceLinks") is not False:
            yield "has variables of services"
        on_host = role in ON_HOSTS and self.values[role]["hostNetwork"]
        if bool(pod.get("hostNetwork")) != on_host:
            yield f"hostNetwork is {pod.get('hostNetwork')}"
        if any(pod.get(key) for key in ("hostPID", "hostIPC", "shareProcessNamespace")):
            yield "sees other processes"
        security = pod["securityContext"]
        if not (security["runAsNonRoot"] and security["runAsUser"] > 0 and security["fsGroup"] > 0):
            yield "may be root"
        if security["seccompProfile"]["type"] != "RuntimeDefault":
            yield "has no seccomp profile"
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        if any("hostPath" in volume for volume in pod.get("volumes", [])):
            yield "reaches files of the host"
        for container in pod.get("initContainers", []) + pod["containers"]:
            security = container["securityContext"]
            wanted = {
                "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True,
                "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
            }  # fmt: skip
            if security != wanted:
                yield f"container {container['name']}: securityContext is {security}"
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe not in container:
                    yield f"container {container['name']}: no {probe}"
            asked = container["resources"]
            if not {"cpu", "memory"} <= asked["requests"].keys() or "memory" not in asked["limits"]:
                yield f"container {container['name']}: resources are {asked}"
            for mount in container["volumeMounts"]:
                if not mount.get("readOnly") and mount["mountPath"] not in WRITABLE:
                    yield f"may write {mount['mountPath']}"
                claimed = kind == "StatefulSet" and mount["name"] == "data"
                if mount["name"] not in volumes and not claimed:
                    yield f"mounts {mount['name']}, which is no volume"

    def node(self, template, role, kind):
        """A pod that is a node of the cluster."""
        pod = template["spec"]
        (container,) = pod["containers"]
        env = {one["name"]: one.get("value") for one in container["env"]}
        ports = {one["name"]: one["containerPort"] for one in container["ports"]}
        yield from (f"the variable {name} overrides no key" for name in configuration.variables(env, self.keys))
        (name,) = [it["configMap"]["name"] for it in pod["volumes"] if "configMap" in it]
        configs = [it for it in self.all("ConfigMap") if it["metadata"]["name"] == name]
        if len(configs) != 1:
            yield f"its ConfigMap {name} is not there"
            return
        config = tomllib.loads(configs[0]["data"]["carillon.toml"])
        if config["node"]["roles"] != [role]:
            yield f"its roles are {config['node']['roles']}"
        if config["cluster"]["drain_seconds"] != self.values["drainSeconds"]:
            yield "drains for another time than it was told"
        if pod["terminationGracePeriodSeconds"] <= config["cluster"]["drain_seconds"]:
            yield "is killed before its drain is over"
        if container["lifecycle"]["preStop"]["exec"]["command"][-1] != "drain":
            yield "does not drain before it stops"
        files = {it["path"] for volume in pod["volumes"] for source in volume.get("projected", {}).get("sources", [])
                 for it in source["secret"]["items"]}  # fmt: skip
        named = {value.rsplit("/", 1)[1] for table in config.values() for key, value in table.items() if key.endswith("_file")}
        if files != named:
            yield f"has the secret files {sorted(files)}, and its configuration names {sorted(named)}"
        host, port = env["CARILLON__OPERATE__LISTEN"].rsplit(":", 1)
        on_loopback = bool(pod.get("hostNetwork")) and self.values["operate"]["hostListen"] == "loopback"
        if (host == "127.0.0.1") != on_loopback or int(port) != ports["operate"]:
            yield f"operate is at {host}:{port}"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            get = container[probe]["httpGet"]
            if (get.get("host") == "127.0.0.1") != on_loopback or get["port"] != "operate":
                yield f"{probe} asks elsewhere"
        if int(env["CARILLON__CLUSTER__LISTEN"].rsplit(":", 1)[1]) != ports["peer"]:
            yield "the port for other nodes is not the one that it names"
        if role == "proxy":
            listen = config["sip"].get("listen") or env["CARILLON__SIP__LISTEN"].split(",")
            heard = Counter(it["bind"] if isinstance(it, dict) else it for it in listen)
            wanted = {(transport, self.values["proxy"]["sip"]["port"]) for transport in self.values["proxy"]["sip"]["transports"]}
            if {(it.split(":", 1)[0], int(it.rsplit(":", 1)[1])) for it in heard} != wanted:
                yield f"hears SIP at {sorted(heard)}"
        if role == "relay" and not env.get("CARILLON__MEDIA__ADDRESS"):
            yield "hears media nowhere"
        if any(it.get("hostPort") not in (None, it["containerPort"]) for it in container["ports"]):
            yield "a port of the host is another one"
        if bool(pod.get("hostNetwork")) != all("hostPort" in it for it in container["ports"]):
            yield "ports of the host are not said, or said without need"
        if kind != "DaemonSet":
            spread = pod["topologySpreadConstraints"]
            affinity = pod["affinity"]["podAntiAffinity"]
            force = "required" if pod.get("hostNetwork") else "preferred"
            if [it["topologyKey"] for it in spread] != ["topology.kubernetes.io/zone"] or [*affinity] != [
                f"{force}DuringSchedulingIgnoredDuringExecution"
            ]:
                yield "is not spread over zones and hosts"

    def config(self, one):
        text = one["data"]["carillon.toml"]
        try:
            config = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            yield f"is no TOML: {error}"
            return
        yield from (f"{key} is no key of the configuration" for key in configuration.unknown(config, self.keys))
        if config["store"]["url"].count("@") > 1 or "password" in config["store"]:
            yield "has a password"
        if ("cert_file" in config["cluster"]) == config["cluster"].get("plain", False):
            yield "neither has certificates nor says that there are none"
        role = one["metadata"]["labels"]["app.kubernetes.io/component"]
        tls = self.values["api"]["tls"]
        for key, named in (("cert_file", tls["existingSecret"]), ("key_file", tls["existingSecret"]), ("client_ca_file", tls["clientCa"]["name"])):
            if role == "portal" and (key in config["api"]) != bool(named):
                yield f"api.{key} is {config['api'].get(key)}, and the values name {named!r}"
        for section, of in (("sip", "proxy"), ("media", "relay"), ("api", "portal")):
            if (section in config) != (role == of):
                yield f"[{section}] does not belong to {role}"
        for section, own in self.values["settings"].items():
            for key, value in own.items():
                if section in config and config[section].get(key) != value:
                    yield f"{section}.{key} is {config[section].get(key)!r}, wanted {value!r}"

    def policy(self, one):
        spec = one["spec"]
        role = spec["podSelector"]["matchLabels"]["app.kubernetes.io/component"]
        if sorted(spec["policyTypes"]) != ["Egress", "Ingress"]:
            yield "leaves a direction open"
        open_ports, ours = set(), set()
        for rule in spec["ingress"]:
            ports = {(it["port"], it.get("endPort"), it["protocol"]) for it in rule.get("ports", [])}
            if not ports:
                yield "has a rule for every port"
            if not rule.get("from"):
                open_ports |= ports
            elif any(it.get("podSelector", {}).get("matchLabels", {}).get("app.kubernetes.io/part-of") == "carillon-cluster"
                     for it in rule["from"]):  # fmt: skip
                ours |= ports
            if any(not it for it in rule.get("from", [])):
                yield "has a peer that is everybody"
        own = self.values.get(role)
        if role == "proxy":
            wanted = {(own["sip"]["port"], None, transport.upper()) for transport in own["sip"]["transports"]}
        elif role == "relay":
            first, last = map(int, own["mediaPorts"].split("-"))
            wanted = {(first, last, "UDP")}
        elif role == "portal" and not self.values["networkPolicy"]["apiFrom"]:
            wanted = {(own["apiPort"], None, "TCP")}
        else:
            wanted = set()
        if open_ports != wanted:
            yield f"everybody reaches {sorted(open_ports, key=str)}, wanted {sorted(wanted, key=str)}"
        port = own["peerPort"] if own else {"trial-etcd": 2379, "trial-postgresql": 5432}[role]
        if ours != {(port, None, "TCP")}:
            yield f"other nodes reach {sorted(ours, key=str)}"

    def service(self, one):
        spec = one["spec"]
        pods = [it for it in self.pods if selects(spec["selector"], it["metadata"]["labels"])]
        if not pods:
            yield "selects no pod of ours"
        for port in spec["ports"]:
            by_tls = port["targetPort"] == "api" and self.values["api"]["tls"]["existingSecret"]
            if port.get("appProtocol") != ("https" if by_tls else None):
                yield f"its port {port['targetPort']} is {port.get('appProtocol')}"
            for pod in pods:
                names = {it["name"] for container in pod["spec"]["containers"] for it in container["ports"]}
                if port["targetPort"] not in names:
                    yield f"its port {port['targetPort']} is none of a pod that it selects"
        for kind in ("proxy", "relay"):
            if spec["selector"].get("app.kubernetes.io/component") == kind and spec["clusterIP"] != "None":
                yield "SIP and media must not pass kube-proxy"

    def custom(self, one):
        kind, spec = one["kind"], one["spec"]
        services = {it["metadata"]["name"]: it for it in self.all("Service")}
        if kind == "ServiceMonitor":
            fitting = [it for it in services.values() if selects(spec["selector"]["matchLabels"], it["metadata"]["labels"])]
            ports = {port["name"] for it in fitting for port in it["spec"]["ports"]}
            if len(fitting) != 1 or {it["port"] for it in spec["endpoints"]} - ports:
                yield "finds no Service, or no such port of it"
        elif kind == "Certificate":
            if not {"server auth", "client auth"} <= set(spec["usages"]) or "carillon-node" not in spec["dnsNames"]:
                yield "is not for both sides"
            if not spec["issuerRef"]["name"]:
                yield "nobody signs it"
            mounted = {source["secret"]["name"] for pod in self.pods for volume in pod["spec"].get("volumes", [])
                       for source in volume.get("projected", {}).get("sources", [])}  # fmt: skip
            if spec["secretName"] not in mounted:
                yield "nobody uses it"
        elif kind == "HTTPRoute":
            backends = [it for rule in spec["rules"] for it in rule["backendRefs"]]
            if not spec["parentRefs"] or any(
                it["port"] not in {port["port"] for port in services[it["name"]]["spec"]["ports"]} for it in backends
            ):
                yield "leads nowhere"
        elif kind == "Ingress":
            for rule in spec["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    if backend["port"]["name"] not in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}:
                        yield "leads nowhere"
