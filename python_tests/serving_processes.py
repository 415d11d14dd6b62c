# SPDX-License-Identifier: MIT
"""`dtnn-fast serve` in a process of its own, and requests to it."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROCK_SALT = "NaCl\n1.0\n0 2.8 2.8\n2.8 0 2.8\n2.8 2.8 0\nNa Cl\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n"


class Server:
    """A running ``dtnn-fast serve``, and requests to it."""

    def __init__(self, *options):
        arguments = ["dtnn-fast", "serve", "--port", "0", *map(str, options)]
        code = f"import sys; sys.argv = {arguments!r}\nfrom dtnn_fast.cli import main\nmain()"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", line)
        assert found, (line, self.process.stderr.read())
        self.url, self.port = found[0], int(found[1])

    def connect(self, timeout=60):
        return contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout))

    def request(self, method, path, body=None, headers=()):
        """Send a request on a connection of its own; returns status, headers in lower case and body."""
        with self.connect() as connection:
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()

    def get(self, path, **headers):
        return self.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def post(self, content, **headers):
        """Send JSON to /v1/predict; returns status and the parsed answer."""
        given = {"content-type": "application/json"} | {name.replace("_", "-"): text for name, text in headers.items()}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        status, _, body = self.request("POST", "/v1/predict", data, given)
        return status, json.loads(body)

    def predict(self, *crystals, include=()):
        """Predict crystals of a request, and return the results."""
        status, answer = self.post({"crystals": crystals, "include": list(include)})
        assert status == 200, answer
        return answer["results"]

    def send_files(self, files, fields=()):
        """Send a form of files, (name, content) each, and fields; returns status and the parsed answer."""
        boundary = "boundary-of-a-test"
        parts = [(f'name="{name}"', value.encode()) for name, value in fields]
        parts += [(f'name="files"; filename="{name}"', content) for name, content in files]
        body = b"".join(
            f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
            for head, content in parts
        )
        headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
        status, _, body = self.request("POST", "/v1/predict", body + f"--{boundary}--\r\n".encode(), headers)
        return status, json.loads(body)

    def readers(self):
        """Process ids of the reading processes."""
        text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in text.split()]

    def stop(self):
        """Stop it as an administrator does; returns exit code and stderr."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            _, errors = self.process.communicate(timeout=60)
        finally:
            self.process.kill()
        return self.process.returncode, errors


@contextlib.contextmanager
def started(*options):
    server = Server(*options)
    try:
        yield server
    finally:
        readers = server.readers() if server.process.poll() is None else []
        code, errors = server.stop()
    assert code == 0
    assert "Traceback" not in errors
    assert not [pid for pid in readers if os.path.exists(f"/proc/{pid}")]
