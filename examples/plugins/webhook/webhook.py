#!/usr/bin/env python3
"""Posts a summary of each stored message to a URL: a process for each message, with nothing but the standard library.

It fails unless the target answers 2xx, and is then asked again by the server, with the same id. Its setting is `url`.
"""

import argparse
import base64
import hashlib
import hmac
import http.client
import ipaddress
import json
import pathlib
import socket
import ssl
import sys
import time
import urllib.parse

# Of a message this is told: these header fields, and this of what is attached.
FIELDS = ("from", "to", "cc", "subject", "date", "message-id")
PARTS = ("filename", "content_type", "size")

PATIENCE = 10  # seconds for a connection, and for each wait on it; the server ends the process at its own time

# What nobody on the Internet may have: the registries that RFC 6890 describes.
SPECIAL = [ipaddress.ip_network(network) for network in (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
    "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    "2001::/23", "2001:db8::/32", "3fff::/20",
)]
GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
NAT64 = ipaddress.ip_network("64:ff9b::/96")


class Refused(Exception):
    """Nothing is sent to such a target."""


def is_public(address):
    """Whether an address is one on the Internet. What leads to an IPv4 address is judged by that."""
    if address.version == 6:
        inner = address.ipv4_mapped or address.sixtofour
        if address in NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is None and address not in GLOBAL_UNICAST:
            return False
        address = inner or address
    return not any(address in network for network in SPECIAL)


def dial(host, port, allow_private):
    """A connection to one of the addresses that were judged: the name is not looked up again."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for *_, place in found:
        if not allow_private and not is_public(ipaddress.ip_address(place[0])):
            raise Refused(f"{host} is at {place[0]}, which is not public")
    for number, (family, kind, protocol, _, place) in enumerate(found, 1):
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(PATIENCE)
        try:
            connection.connect(place)
            return connection
        except OSError:
            connection.close()
            if number == len(found):
                raise


class Connection(http.client.HTTPConnection):
    """To a target whose addresses are judged. Neither redirects are followed nor proxies used."""

    def __init__(self, url, allow_private):
        target = urllib.parse.urlsplit(url)
        self.tls, self.allow_private = target.scheme == "https", allow_private
        self.default_port = 443 if self.tls else 80
        port = target.port or self.default_port
        if not target.hostname or target.username is not None or target.scheme not in ("http", "https"):
            raise Refused("write https://host/path")
        if not allow_private and not self.tls:
            raise Refused("http is for private targets only: write https")
        if not allow_private and port not in (443, 8443) and port < 1024:
            raise Refused(f"port {port} is that of another service")
        super().__init__(target.hostname, port)
        self.place = (target.path or "/") + (f"?{target.query}" if target.query else "")

    def connect(self):
        self.sock = dial(self.host, self.port, self.allow_private)
        if self.tls:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)


def summary(request):
    """What is told of a message. What the hook may not see is left out."""
    message = request["message"]
    told = {"message_id": message["id"], "size": message["size"], "has_attachments": message["has_attachments"]}
    told |= {name: request[name] for name in ("envelope", "mailbox", "flags", "tags") if name in request}
    if "headers" in message:
        # Of a field that is there twice, the first one counts.
        fields = {field["name"].lower(): field.get("value") for field in reversed(message["headers"])}
        told["headers"] = {name: fields[name] for name in FIELDS if name in fields}
    if "attachments" in message:
        told["attachments"] = [{name: part.get(name) for name in PARTS} for part in message["attachments"]]
    return {"type": "message.received", "timestamp": request["occurred_at"], "mode": request["mode"], "data": told}


def signed(key, call, timestamp, body):
    """The signature of Standard Webhooks."""
    mac = hmac.new(key, f"{call}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


def post(url, call, body, key=None, allow_private=False):
    """Sends it, and gives the status of the answer."""
    connection = Connection(url, allow_private)
    timestamp = str(int(time.time()))
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "mairust-plugin-webhook/1",
        "webhook-id": call,
        "webhook-timestamp": timestamp,
    }
    if key:
        headers["webhook-signature"] = signed(key, call, timestamp, body)
    try:
        connection.request("POST", connection.place, body, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def read_key(path):
    """The key in a file, as Standard Webhooks write it."""
    return base64.b64decode(pathlib.Path(path).read_text().strip().removeprefix("whsec_"), validate=True)


def main():
    # Settings are the tenant's. What a tenant must not say is in the command, which is of whoever runs the server.
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--secret-file", metavar="FILE", help="has the key, whsec_…, that requests are signed with")
    parser.add_argument("--allow-private", action="store_true", help="also private addresses, http, and all ports")
    given = parser.parse_args()
    request = json.load(sys.stdin)
    body = json.dumps(summary(request), ensure_ascii=False).encode()
    try:
        key = read_key(given.secret_file) if given.secret_file else None
        status = post(request["plugin"]["config"]["url"], request["invocation_id"], body, key, given.allow_private)
    except (Refused, OSError, http.client.HTTPException, ValueError, KeyError) as error:
        sys.exit(f"nothing was posted: {error!r}")
    if not 200 <= status < 300:
        sys.exit(f"the target answered {status}")
    json.dump({"verdict": "allow"}, sys.stdout)


if __name__ == "__main__":
    main()
