"""Addresses of tracking servers, and paths below a results folder, that strangers wrote."""

from pathlib import Path

import pytest

from lora.errors import UserError
from lora.plan.checking import resolve
from lora.plan.layout import Layout
from lora.plan.servers import host_of, is_named, wrong_with
from lora.plan.words import shown
from tests.support.plans import config

SECRET = [
    "http://me:pw@host",
    "http://me@host:5000",
    "postgresql://host/db?user=me&password=pw",
    "postgresql://host/db?sslpassword=pw",
    "https://host/#pw",
    "mysql://host/db;password=pw",
]
PLAIN = ["http://host:5000", "https://host/mlflow", "sqlite:////a/b.db", "postgresql://host/db", ""]


@pytest.mark.parametrize("uri", SECRET)
def test_no_secret_in_an_address(uri: str, tmp_path: Path) -> None:
    assert "environment instead" in wrong_with(uri)
    with pytest.raises(UserError, match=r"config: tracking\.uri: holds") as caught:
        resolve(config(tmp_path, tracking={"uri": uri}), folder=tmp_path)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize("uri", PLAIN)
def test_plain_addresses(uri: str) -> None:
    assert wrong_with(uri) == ""


def test_no_address_at_all() -> None:
    assert wrong_with("http://host:port").startswith("is no address")
    assert wrong_with("http://[::1").startswith("is no address")


def test_a_server_is_shown_before_it_is_asked(tmp_path: Path) -> None:
    _, said = resolve(config(tmp_path, tracking={"uri": "https://x.org:1"}), folder=tmp_path)
    assert said == ["config: tracking.uri: runs and the chosen model are sent to x.org:1"]
    assert resolve(config(tmp_path), folder=tmp_path)[1] == []
    assert host_of("sqlite:///a") == host_of(None) == ""


@pytest.mark.parametrize(
    ("named", "known"),
    [
        ("https://host", True),
        ("https://HOST:443/mlflow", True),
        ("http://host", False),
        ("https://host:8443", False),
        ("https://host.evil.org", False),
        ("", False),
    ],
)
def test_the_users_environment_names_a_server(named: str, known: bool) -> None:
    assert is_named("https://host/mlflow", {"MLFLOW_TRACKING_URI": named}) is known


def test_a_secret_in_a_value_is_not_shown() -> None:
    assert "pw" not in shown({"uri": "postgresql://h/d?password=pw&x=1"})
    assert "pw" not in shown("token: pw".replace(" ", ""))


@pytest.mark.parametrize("name", ["../../x", "/etc/passwd", "a/../../b", ".."])
def test_no_name_leads_out_of_the_results(name: str) -> None:
    layout = Layout(Path("results"))
    ways = [layout.training, layout.work, layout.cut, layout.model, layout.report]
    ways += [lambda x: layout.training(x, rung=1), lambda x: layout.receipt("truncate", x)]
    for way in ways:
        with pytest.raises(UserError, match="is no name of a point"):
            way(name)
