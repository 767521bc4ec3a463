#!/usr/bin/env python3
"""A hook as a process for each message: it reads one request, and writes one answer.

Easy to write, but each message costs the start of an interpreter: for mail of a few people, or for post_receive.
Its grants: read_headers, decide=reject.
"""

import json
import sys

request = json.load(sys.stdin)
names = {field["name"].lower() for field in request["message"].get("headers", [])}
if "x-test-reject" in names:
    answer = {"verdict": "reject", "reason": "it asks for it"}
else:
    answer = {"verdict": "allow"}
print("seen", request["message"]["size"], "octets", file=sys.stderr)
json.dump(answer, sys.stdout)
