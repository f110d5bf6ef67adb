"""SECURITY.md is true: its limits are those of the code, and its proxies pass on what the app decides by."""

from __future__ import annotations

import tomllib
from pathlib import Path

from dmpo_explore_app import access
from dmpo_explore_app.services import live_session, model_queue

from dmpo_explore.data import image_files
from dmpo_explore.jobs import jobs

ROOT = Path(__file__).parents[1]
TEXT = " ".join((ROOT / "SECURITY.md").read_text(encoding="utf-8").split())
SERVER = tomllib.loads((ROOT / "app" / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["server"]


def test_the_limits_are_those_of_the_code() -> None:
    million, webp = image_files.MOST_PIXELS // 10**6, image_files.MOST_PIXELS_OF["WEBP"] // 10**6
    scans = f"{image_files.MOST_SCANS} scans"
    assert f"{million} million (WebP: {webp} million), {image_files.MOST_SIDE:,} a side, {scans}" in TEXT
    assert f"message of the WebSocket | {access.MOST_MB} MB, {SERVER['maxMessageSize']} MB" in TEXT
    assert f"a ZIP file of images, from a private session | {SERVER['maxUploadSize']:,} MB;" in TEXT
    assert f"before it is decoded | {image_files.MOST_BYTES // 2**20} MB |" in TEXT
    assert f"requests that wait for a model | {model_queue.MOST_WAITING};" in TEXT
    assert f"live runs at the same time | {live_session.MOST_AT_ONCE} |" in TEXT
    assert f"started from the app | {jobs.MOST_AT_ONCE} |" in TEXT


def test_streamlit_is_told_the_same() -> None:
    assert SERVER["address"] == "localhost" and SERVER["allowedHosts"] == list(access.LOCAL_NAMES)
    assert all(map(access.is_loopback, access.LOCAL_NAMES))


def test_the_proxies_pass_on_the_host_and_close_the_metrics() -> None:
    nginx, caddy = (TEXT.split(f"```{name}", 1)[1].split("```", 1)[0] for name in ("nginx", "caddy"))
    assert "proxy_set_header Host $host;" in nginx and "proxy_set_header Upgrade $http_upgrade;" in nginx
    most = access.MOST_MB + 1  # with what surrounds a file
    assert f"client_max_body_size {most}m;" in nginx and f"max_size {most}MB" in caddy
    assert "auth_basic_user_file" in nginx and "basic_auth" in caddy  # Caddy passes on the host by itself
    assert all("/_stcore/metrics" in config for config in (nginx, caddy))
    assert "X-Forwarded-For" in nginx and "x-forwarded-for" in access.FORWARDED
