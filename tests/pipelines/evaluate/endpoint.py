"""A small server on loopback that speaks enough of OpenAI's chat completions, and answers by what it is asked."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


class Endpoint(BaseHTTPRequestHandler):
    requests: ClassVar[list[dict]] = []
    keys: ClassVar[list[str | None]] = []
    failures = 0
    status = 503

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        Endpoint.requests.append(body)
        Endpoint.keys.append(self.headers.get("Authorization"))
        if Endpoint.failures:
            Endpoint.failures -= 1
            self.send_error(Endpoint.status)
            return
        question = body["messages"][0]["content"]
        answer = "Yes, it is." if "kind" in question else "No." if "cruel" in question else "Who knows"
        message = {"role": "assistant", "content": answer}
        choice = {"index": 0, "finish_reason": "stop", "message": message}
        reply = json.dumps(
            {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice]}
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass


@contextmanager
def endpoint():
    """The address of a server that runs while this is open; its requests are in ``Endpoint.requests``."""
    Endpoint.requests, Endpoint.keys, Endpoint.failures = [], [], 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
