"""A program elsewhere that is told what happens: Python's own HTTP server, and the library of Standard Webhooks."""

import http.server
import threading

from conftest import wait_until
from standardwebhooks.webhooks import Webhook


class Receiver:
    """Takes requests, and answers 204, or what it was told to answer, with these header fields."""

    def __init__(self):
        self.requests, self.answers, self.fields, self.lock = [], [], {}, threading.Lock()
        self.server, self.port = None, 0
        self.start()

    def start(self):
        """Listens, again at the same port if it did before."""
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver.lock:
                    receiver.requests.append(({name.lower(): value for name, value in self.headers.items()}, body))
                    status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                for name, value in receiver.fields.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/in"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.server = None

    def wait_for(self, count, timeout=30):
        wait_until(lambda: len(self.requests) >= count, f"{count} requests", timeout)
        return self.requests

    def events(self, secret, kinds=None):
        """The events that came so far, each verified by the library; of these types."""
        with self.lock:
            requests = list(self.requests)
        events = [Webhook(secret).verify(body, headers) for headers, body in requests]
        return [event for event in events if kinds is None or event["type"] in kinds]

    def wait_for_event(self, secret, kind, timeout=30):
        return wait_until(lambda: self.events(secret, [kind]), kind, timeout)[0]
