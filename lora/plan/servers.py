"""The tracking server that a config names: no secret in its address, none for a stranger's."""

import os
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

NAMED = "MLFLOW_TRACKING_URI"  # by it the user says which server gets the credentials
INSTEAD = (
    "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN, in the "
    "environment instead"
)


def wrong_with(uri: str) -> str:
    """Return what is wrong with the address of a server, "" where nothing is.

    Whatever stands in it ends up in logs, commands and reports.

    Args:
        uri: The address.
    """
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as error:
        return f"is no address ({str(error).lower()})"
    if "@" in uri:
        return f"holds a user or a password; {INSTEAD}"
    if parts.query or parts.fragment or ";" in uri:
        return f"holds more than an address, which may be a password; {INSTEAD}"
    return ""


def host_of(uri: str | None) -> str:
    """Return host and port of a server, "" for a file.

    Args:
        uri: The address; None is a file.
    """
    parts = urlsplit(uri or "")
    return parts.netloc if parts.scheme != "sqlite" else ""


def is_named(uri: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return True if the user's environment names this server, so that it may get credentials.

    Args:
        uri: The address that a config names.
        environment: The environment.
    """
    return bool(host_of(uri)) and _place(urlsplit(uri)) == _place(
        urlsplit(environment.get(NAMED, ""))
    )


def _place(parts: SplitResult) -> tuple[str, str | None, int | None]:
    """Return what tells two servers apart."""
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port
