"""Every key that a configuration file may have, by section."""

import pathlib
import re

# Keys of clusters. Those of a single node stand in deploy/carillon.toml, and a test of the program sees that all do.
OF_CLUSTERS = {
    "node": {"id", "name", "roles", "zone", "capacity"},
    "cluster": {
        "etcd", "etcd_user", "etcd_password_file", "etcd_ca_file", "etcd_cert_file", "etcd_key_file", "prefix", "lease_seconds",
        "listen", "advertise", "ca_file", "cert_file", "key_file", "plain", "drain_seconds",
    },
    "operate": {"listen"},
    "telemetry": {"otlp", "sample", "hep", "hep_id", "hep_password_file"},
}  # fmt: skip


def known(top: pathlib.Path) -> dict[str, set[str]]:
    """Those of the example, also the ones behind a comment sign, and those of clusters."""
    keys = {section: set(names) for section, names in OF_CLUSTERS.items()}
    section = None
    for line in (top / "deploy/carillon.toml").read_text().splitlines():
        if head := re.match(r"(?:# )?\[(\w+)\]", line):
            section = keys.setdefault(head[1], set())
        elif key := re.match(r"(?:# )?(\w+) = ", line):
            section.add(key[1])
    return keys


def unknown(config: dict, keys: dict[str, set[str]]) -> list[str]:
    """What a file has and nobody knows."""
    found = []
    for section, table in config.items():
        if section not in keys:
            found.append(f"[{section}]")
        else:
            found.extend(f"{section}.{key}" for key in table if key not in keys[section])
    return found


def variables(names, keys: dict[str, set[str]]) -> list[str]:
    """Variables of the environment that override no key."""
    wrong = []
    for name in names:
        parts = name.lower().split("__")
        if parts[0] == "carillon" and not (len(parts) == 3 and parts[2] in keys.get(parts[1], ())):
            wrong.append(name)
    return wrong
