"""Who may ask, and what every answer carries."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tests.unit.serve.conftest import jpeg

from isograft import console
from isograft.serve.guard import SECURITY, Rules

Make = Callable[..., SimpleNamespace]
TOKEN = "a-token-of-some-length"
LOCAL = Rules.of("127.0.0.1", local=True)


def test_every_answer_carries_the_headers_that_keep_browsers_safe(shared: SimpleNamespace) -> None:
    answers = [shared.client.get(path) for path in ("/", "/health", "/api/model", "/api/nothing", "/static/nothing.js", "/metrics")]
    answers.append(shared.client.post("/api/predict", files={"file": b"no image"}))
    for response in answers:
        assert {name: response.headers[name] for name in SECURITY} == SECURITY
        assert response.headers["cache-control"] == ("no-cache" if response.url.path in ("/", "/static/nothing.js") else "no-store")
    assert "default-src 'none'" in SECURITY["Content-Security-Policy"]
    assert "unsafe" not in SECURITY["Content-Security-Policy"] and "http" not in SECURITY["Content-Security-Policy"]


def test_a_local_server_answers_only_to_names_of_this_machine(make: Make) -> None:
    client = make(rules=LOCAL).client
    for host in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert client.get("/api/model", headers={"Host": host}).status_code == 200, host
    for host in (
        "evil.example",
        "127.0.0.1.evil.example:8000",
        "localhost.evil.example",
        "evil.example#localhost",
        "",
        "[",
        "a@b@c",
    ):
        response = client.get("/api/model", headers={"Host": host})
        assert response.status_code == 403 and "name of this machine" in response.json()["detail"], host


@pytest.mark.parametrize("origin", ["http://evil.example", "https://evil.example:8000", "null", "http://localhost:9000", "file://"])
def test_a_page_of_another_server_cannot_post(make: Make, origin: str) -> None:
    client = make(rules=LOCAL).client
    asked = {"files": {"file": jpeg(1)}, "headers": {"Host": "localhost:8000", "Origin": origin}}
    assert client.post("/api/predict", **asked).status_code == 403
    own = {"Host": "localhost:8000", "Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/api/predict", files={"file": jpeg(1)}, headers=own).status_code == 200
    assert client.post("/api/predict", files={"file": jpeg(1)}, headers={**own, "Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_a_server_that_others_reach_asks_for_the_token_and_takes_any_name(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[Any] = []
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or a == b)
    client = make(rules=Rules.of("0.0.0.0", local=False, token=TOKEN)).client
    for path in ("/api/model", "/metrics", "/api/openapi.json"):
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
            response = client.get(path, headers=given)
            assert (response.status_code, response.headers["www-authenticate"]) == (401, "Bearer")
            assert TOKEN not in response.text
        assert client.get(path, headers={"Authorization": f"Bearer {TOKEN}", "Host": "scanner.example"}).status_code == 200
    assert client.post("/api/predict", files={"file": jpeg(1)}).status_code == 401
    assert client.get("/health").json() == {"status": "ok"} and client.get("/").status_code in (200, 404)
    assert (b"wrong", TOKEN.encode()) in compared
    schema = client.get("/api/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}).json()
    assert schema["paths"]["/api/predict"]["post"]["security"] == [{"token": []}]


def test_a_local_server_with_a_token_of_its_own_answers_only_to_names_of_this_machine_too(make: Make) -> None:
    client = make(rules=Rules.of("127.0.0.1", local=True, token=TOKEN)).client
    asked = {"url": "/api/model", "headers": {"Authorization": f"Bearer {TOKEN}"}}
    assert client.get(**asked | {"headers": {**asked["headers"], "Host": "localhost:8000"}}).status_code == 200
    assert client.get(**asked | {"headers": {**asked["headers"], "Host": "evil.example"}}).status_code == 403


def test_behind_a_server_with_tls_a_token_of_the_users_lets_its_name_pass_and_other_pages_stay_out(make: Make) -> None:
    client = make(rules=Rules.of("127.0.0.1", local=False, token=TOKEN)).client
    headers = {"Host": "skin.example", "Authorization": f"Bearer {TOKEN}"}
    asked = {"url": "/api/predict", "files": {"file": jpeg(1)}}
    assert client.post(**asked, headers={**headers, "Origin": "https://skin.example"}).status_code == 200
    assert client.post(**asked, headers={**headers, "Origin": "https://evil.example"}).status_code == 403
    assert client.post(**asked, headers={"Host": "skin.example"}).status_code == 401


def test_nothing_is_sent_to_where_opentelemetry_is_set_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    asgi = pytest.importorskip("fastapi.telemetry._asgi")
    for place, name in ((asgi.trace, "get_tracer_provider"), (asgi.metrics, "get_meter_provider"), (asgi._logs, "get_logger_provider")):
        monkeypatch.setattr(place, name, lambda: pytest.fail("telemetry"))
    assert make().client.post("/api/predict", files={"file": jpeg(1)}).status_code == 200


def test_tokens_that_are_no_ascii_are_wrong_and_no_failure(make: Make) -> None:
    client = make(rules=Rules(TOKEN)).client
    assert client.get("/api/model", headers={"Authorization": b"Bearer \xe9t\xe9"}).status_code == 401


def test_a_server_that_is_stopping_refuses_what_is_new(make: Make) -> None:
    app = make()
    app.service.draining = True
    response = app.client.post("/api/predict", files={"file": jpeg(1)})
    assert response.status_code == 503 and response.headers["retry-after"] == "5" and "shutting down" in response.json()["detail"]
    assert app.client.get("/metrics").status_code == 200


def test_an_error_within_the_server_says_nothing_of_what_was_sent(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(console, "warn", said.append)
    app = make()

    async def broken(data: bytes) -> None:
        raise ValueError("Doe^John 1950 /home/secret")

    monkeypatch.setattr(app.service, "predict", broken)
    response = app.client.post("/api/predict", files={"file": ("Doe^John.dcm", jpeg(1))})
    assert response.status_code == 500 and "Doe" not in response.text and "secret" not in response.text
    assert len(said) == 1 and "ValueError" in said[0] and "Doe" not in said[0] and "secret" not in said[0]


def test_metrics_count_by_route_and_name_nothing_that_a_client_wrote(make: Make) -> None:
    app = make()
    app.client.post("/api/predict", files={"file": ("Doe^John.dcm", jpeg(1))}, headers={"User-Agent": "Doe"})
    app.client.get("/patients/doe-john")
    app.client.get('/api/labeling/7"} Doe 1%0A')
    text = app.client.get("/metrics").text
    assert 'isograft_requests_total{route="/api/predict",status="200"} 1' in text
    assert 'isograft_requests_total{route="other",status="404"} 2' in text
    assert "doe" not in text.lower()
