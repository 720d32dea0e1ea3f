"""A web server for tests of the driver: NAME says who it is, READY=no that it never gets ready.

`/slow` takes a second, `/count` says how many requests were served before.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NAME = os.environ["NAME"]
READY = os.environ.get("READY", "yes") == "yes"
served = 0


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        global served
        if self.path == "/readyz":
            self.say(200 if READY else 503, "ready" if READY else "still loading")
            return
        if self.path == "/slow":
            time.sleep(1)
        before, served = served, served + 1
        text = NAME if self.path != "/count" else str(before)
        self.say(200, json.dumps({"flag": "off"}) if self.path == "/state" else text)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


server = Server((os.environ["HOST"], int(os.environ["PORT"])), Answer)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(0.05)
sys.exit(0)
