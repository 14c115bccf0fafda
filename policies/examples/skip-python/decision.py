"""Which pods are left alone. Nothing here knows of WebAssembly, so `python3 -m unittest` reaches all of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Settings:
    namespaces: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)


def read(text: str) -> Settings:
    """
    Reads the settings, a JSON text or an empty one:

        {"namespaces": ["dev"], "labels": {"team": "x"}}

    Raises a ValueError that says what is wrong with them, in words for the person who wrote them.
    """
    settings = json.loads(text) if text else {}
    if not isinstance(settings, dict):
        raise ValueError("the settings are not an object")
    for key in settings:
        if key not in ("namespaces", "labels"):
            raise ValueError(f'"{key}" is not a setting; there are "namespaces" and "labels"')
    found = Settings(**settings)
    if not isinstance(found.namespaces, list) or not all(isinstance(name, str) for name in found.namespaces):
        raise ValueError('"namespaces" is not a list of names')
    if not isinstance(found.labels, dict) or not all(isinstance(value, str) for value in found.labels.values()):
        raise ValueError('"labels" is not an object of labels and values')
    return found


def reason(settings: Settings, namespace: str, label: Callable[[str], str | None]) -> str | None:
    """
    Why a pod is left alone, or None where it is not. `label` gives the value of one of its labels, or None; it is only
    called for labels that the settings name.
    """
    if namespace in settings.namespaces:
        return f"pods in the namespace {namespace} are skipped"
    for key, value in settings.labels.items():
        if label(key) == value:
            return f"pods labelled {key}={value} are skipped"
    return None
