"""A tiny HTTP service with the manners that tests ask for, run as a program."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = "\n".join(f"{name}={value}" for name, value in os.environ.items()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--delay", type=float, default=0.0)
parser.add_argument("--refuses", help="end at once with this complaint")
parser.add_argument("--refuses-if", help="... only when this file exists")
parser.add_argument("--deaf", action="store_true", help="ignore polite signals")
parser.add_argument("--child", help="start a grandchild and write its pid to this file")
parser.add_argument("--thief", help="once, let a process take --thief-port first, and write its pid to this file")
parser.add_argument("--thief-port", type=int)
options = parser.parse_args()
if options.deaf:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
if options.child:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(options.child).write_text(str(grandchild.pid))
if options.thief and not Path(options.thief).exists():
    program = "import socket, time; s = socket.create_server(('127.0.0.1', %d)); print(1, flush=True); time.sleep(600)"
    thief = subprocess.Popen(
        [sys.executable, "-c", program % options.thief_port], stdout=subprocess.PIPE, start_new_session=True
    )
    assert thief.stdout is not None
    thief.stdout.readline()
    Path(options.thief).write_text(str(thief.pid))
time.sleep(options.delay)
if options.refuses and (options.refuses_if is None or Path(options.refuses_if).exists()):
    print(options.refuses, file=sys.stderr)
    sys.exit(1)
ThreadingHTTPServer(("127.0.0.1", options.port), Answer).serve_forever()
