"""What the policy decides. Nothing here knows of WebAssembly, so ./test.sh reaches all of it."""

import json


def read(text: str) -> list[str]:
    """
    Reads the settings, `namespaces: [ci, scratch]`, which arrive as a JSON text or an empty one. Raises a ValueError
    that says what is wrong with them, in words for the person who wrote them.
    """
    settings = json.loads(text) if text else {}
    for key in settings:
        if key != "namespaces":
            raise ValueError(f'"{key}" is not a setting; there is "namespaces"')
    namespaces = settings.get("namespaces", [])
    if not isinstance(namespaces, list) or not all(isinstance(name, str) and name for name in namespaces):
        raise ValueError('"namespaces" is not a list of names')
    return namespaces


def reason(namespaces: list[str], namespace: str) -> str | None:
    """Why a pod's images are left alone, or None where the next policy is asked."""
    return f"images are not cached for namespace {namespace}" if namespace in namespaces else None
