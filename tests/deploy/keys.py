"""Every key that a configuration file may have, by section."""

import pathlib
import re


def known(top: pathlib.Path) -> dict[str, set[str]]:
    """Those of the example, also the ones behind a comment sign: a test of the program sees that all are there."""
    keys = {}
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
