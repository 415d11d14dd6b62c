# SPDX-License-Identifier: MIT
"""Requests that mean harm: other hosts and origins, paths, markup in names, invalid requests."""

import json
import re

import pytest
from serving_processes import ROCK_SALT

pytestmark = pytest.mark.slow

HOSTILE = "<script>alert(1)</script>"
BODY = json.dumps({"crystals": [{"text": ROCK_SALT}]}).encode()
JSON = {"content-type": "application/json"}


def code_of(answer):
    return answer["error"]["code"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:{port}", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:{port}", 200),
        ("[::1]:{port}", 200),
        ("192.168.0.7", 200),  # an address in numbers cannot be rebound
        ("crystals.example", 200),  # --allow-host
        ("crystals.example:443", 200),
        ("evil.example:{port}", 421),
        ("localhost.evil.example", 421),
        ("evil.example@localhost", 421),
        ("localhost@evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("[::1", 421),
        ("", 421),
    ],
)
def test_hosts(small_server, host, status):
    got, headers, body = small_server.get("/health", host=host.format(port=small_server.port))
    assert got == status
    assert headers["x-content-type-options"] == "nosniff"
    if status == 421:
        assert "--allow-host" in json.loads(body)["error"]["message"]
    elsewhere = small_server.request("POST", "/v1/predict", BODY, JSON | {"host": host.format(port=small_server.port)})
    assert elsewhere[0] == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "http://localhost:{port}", "host": "localhost:{port}"}, 200),
        ({"origin": "https://friend.example"}, 200),  # --allow-origin
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "http://friend.example"}, 403),
        ({"origin": "https://friend.example.evil.example"}, 403),
        ({"origin": "http://localhost:1"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ""}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
    ],
)
def test_pages_of_other_sites_cannot_post(small_server, headers, status):
    given = {name: value.format(port=small_server.port) for name, value in headers.items()}
    got, answered, _ = small_server.request("POST", "/v1/predict", BODY, JSON | given)
    assert got == status
    allowed = answered.get("access-control-allow-origin")
    assert allowed == ("https://friend.example" if given.get("origin") == "https://friend.example" else None)


def test_other_sites_are_not_told_that_they_may_ask(server, small_server):
    asking = {"origin": "https://friend.example", "access-control-request-method": "POST"}
    status, headers, _ = server.request("OPTIONS", "/v1/predict", headers=asking)
    assert "access-control-allow-origin" not in headers
    assert status == 405
    status, headers, _ = small_server.request("OPTIONS", "/v1/predict", headers=asking)
    assert (status, headers["access-control-allow-origin"]) == (200, "https://friend.example")
    asking["origin"] = "https://evil.example"
    assert "access-control-allow-origin" not in small_server.request("OPTIONS", "/v1/predict", headers=asking)[1]


@pytest.mark.parametrize("path", ["/", "/health", "/docs", "/openapi.json", "/v1/model", "/nothing", "/v1/predict"])
def test_every_answer_has_the_headers_of_a_closed_house(server, path):
    _, headers, body = server.get(path)
    policy = headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "frame-ancestors 'none'" in policy
    assert "default-src 'none'" in policy
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers
    assert b"Traceback" not in body
    if path == "/":
        (scripts,) = re.findall(r"script-src ([^;]*);", policy)
        assert re.fullmatch(r"('sha256-[\w+/=]{44}' ?)+", scripts)
        assert "unsafe" not in policy
        # Nothing from elsewhere, not even a name; 3Dmol.js has addresses of databases in functions that are not used.
        page = re.sub(rb"<script>!?function.*?</script>", b"", body, count=1, flags=re.DOTALL)
        assert not re.search(rb"(?:src|href)\s*=\s*[\"']?(?:https?:)?//", page)


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page/serve.js",
        "/static/../../etc/passwd",
        "//etc/passwd",
        "/v1/predict/../../../etc/passwd",
    ],
)
def test_no_path_of_the_server_is_a_page(server, path):
    status, _, body = server.get(path)
    assert status in (404, 405)
    assert b"root:" not in body


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../../etc/passwd", "/dev/zero", "C:\\secret.cif", "/proc/self/environ"]
)
def test_names_of_files_are_never_opened(server, name):
    """The content counts, whatever file has the name; and answers tell nothing of the folders of the server."""
    content = {"name": name, "text": ROCK_SALT, "format": "poscar"}
    (result,) = server.predict(content)
    assert result["formula"] == "NaCl"
    assert "/" not in result["name"]
    (result,) = server.predict({"name": name, "text": "no crystal"})
    assert result["status"] == "rejected"
    assert "root:" not in json.dumps(result)
    _, answer = server.send_files([(name, ROCK_SALT.encode())], [("format", "poscar")])
    assert answer["results"][0]["formula"] == "NaCl"


@pytest.mark.parametrize(
    "name", ["POSCAR", "CONTCAR", ".", "..", "", " ", ":", "\u0000", "a\nb.cif", "a" * 250 + ".vasp", "…", "\ud800"]
)
def test_strange_names(server, name):
    for text in (ROCK_SALT, "data_x\n_cell_length_a 5\n"):
        status, answer = server.post(json.dumps({"crystals": [{"name": name, "text": text}]}).encode())
        if name == "\ud800":  # half of a character is not JSON
            assert status == 422
            continue
        (result,) = answer["results"]
        assert status == 200
        assert "serve" not in json.dumps(result)
        assert "\n" not in result["name"]
        assert len(result["name"]) <= 120
        assert result["name"]


def test_markup_in_texts_stays_text(server):
    """Answers are JSON, never HTML; the page writes texts only as texts, which test_serve_browser.py shows."""
    cif = f"data_{HOSTILE}\n_chemical_name_common '{HOSTILE}'\n_cell_length_a '{HOSTILE}'\n_atom_site_fract_x 0\n"
    contents = ({"name": f"{HOSTILE}.cif", "text": cif}, {"name": f"{HOSTILE}.cif", "text": f"data_x\n{HOSTILE}"})
    status, headers, body = server.request("POST", "/v1/predict", json.dumps({"crystals": contents}), JSON)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert all(result["status"] == "rejected" for result in json.loads(body)["results"])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"[]", "object"),
        (b"null", "object"),
        (b"{}", "crystals: Field required"),
        (b'{"crystals": []}', "at least 1"),
        (b'{"crystals": [{}]}', "either `text` or `structure`"),
        (b'{"crystals": [{"text": "a", "structure": {}}]}', "either `text` or `structure`"),
        (b'{"crystals": [{"text": ""}]}', "at least 1 character"),
        (b'{"crystals": [{"text": 1}]}', "string"),
        (b'{"crystals": [{"text": "a", "path": "/etc/passwd"}]}', "path: Extra inputs"),
        (b'{"crystals": [{"text": "a", "format": "ase_db"}]}', "format: Input should be 'cif'"),
        (b'{"crystals": [{"text": "a"}], "include": ["weights"]}', "include.0"),
        (b'{"crystals": ' + b"[" * 100_000, "JSON"),
        (b'{"crystals": [{"structure": ' + b'{"a":' * 5000 + b"1" + b"}" * 5001 + b"]}", "JSON"),
        (b"\xff\xfe", "JSON"),
        (json.dumps({"crystals": [{"name": "a" * 300, "text": "a"}]}).encode(), "255"),
    ],
)
def test_invalid_requests_say_what_was_expected(server, body, said):
    status, answer = server.post(body)
    assert (status, code_of(answer)) == (422, "invalid"), answer
    assert said in answer["error"]["message"]


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "application/octet-stream", ""])
def test_other_types_of_bodies(server, kind):
    """text/plain above all: browsers send it to other sites without asking."""
    status, answer = server.post(BODY, content_type=kind)
    assert (status, code_of(answer)) == (415, "content_type")


@pytest.mark.parametrize(
    ("body", "boundary"),
    [
        (b"", "; boundary=b"),
        (b"--b--\r\n", "; boundary=b"),
        (b"nonsense", "; boundary=b"),
        (BODY, ""),
        (b'--b\r\nContent-Disposition: form-data; name="files"\r\n\r\nno file\r\n--b--\r\n', "; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\na\r\n--b--\r\n', "; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="include"\r\n\r\nall\r\n--b--\r\n', "; boundary=b"),
        (b'--b\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\nunfinished', "; boundary=b"),
    ],
)
def test_invalid_forms(server, body, boundary):
    status, answer = server.post(body, content_type=f"multipart/form-data{boundary}")
    assert (status, code_of(answer)) == (422, "invalid"), answer
    assert "form" in answer["error"]["message"]


def test_other_methods_and_places(server):
    assert server.get("/v1/predict")[0] == 405
    status, _, body = server.request("DELETE", "/health")
    assert status == 405
    assert json.loads(body)["error"]["code"] == "http"
    assert server.get("/nothing")[0] == 404
    # No web socket, whoever asks.
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-key": "a" * 16,
        "sec-websocket-version": "13",
    }
    assert server.get("/", **{name.replace("-", "_"): value for name, value in upgrade.items()})[0] == 200


def test_numbers_that_are_none(server):
    """NaN and infinities in structures are refused as crystals, and answers never hold them: they are not JSON."""
    for value in ("NaN", "Infinity", "1e999", "1e308"):
        structure = {"lattice_vectors": [["VALUE", 2.8, 2.8], [2.8, 0, 2.8], [2.8, 2.8, 0]]}
        structure |= {"species_at_sites": ["Na"], "cartesian_site_positions": [[0, 0, 0]]}
        body = json.dumps({"crystals": [{"structure": structure}]}).replace('"VALUE"', value).encode()
        status, answer = server.post(body)
        assert status in (200, 422)
        assert status == 422 or answer["results"][0]["status"] == "rejected"
