"""Forged ends of DATA (CVE-2023-51764, CVE-2023-51765, CVE-2023-51766): only CRLF . CRLF ends a message."""

from suite import case, expect

FORGED = {
    "lf-dot-lf": b"\n.\n",
    "lf-dot-crlf": b"\n.\r\n",
    "crlf-dot-lf": b"\r\n.\n",
    "lf-dot-cr": b"\n.\r",
    "cr-dot-cr": b"\r.\r",
    "cr-dot-lf": b"\r.\n",
    "cr-dot-crlf": b"\r.\r\n",
    "crlf-dot-cr": b"\r\n.\r",
    "crlf-dot-cr-crlf": b"\r\n.\r\r\n",
    "crlf-cr-dot-crlf": b"\r\n\r.\r\n",
    "crlf-dot-nul-crlf": b"\r\n.\0\r\n",
    "crlf-nul-dot-crlf": b"\r\n\0.\r\n",
    "crlf-dot-space-crlf": b"\r\n. \r\n",
    "stuffed-dot-lf-dot-crlf": b"\r\n..\n.\r\n",
}


def register(name, forged):
    shown = forged.decode().replace("\r", "<CR>").replace("\n", "<LF>").replace("\0", "<NUL>")

    @case(
        f"smuggling-{name}",
        "CVE-2023-51764",
        f"{shown} does not end a message: nothing after it is a command, no second message is stored.",
    )
    def smuggling(trial):
        attempt(trial, forged)


def attempt(trial, forged):
    connection, first, second = trial.ready(), trial.token(), trial.token()
    trial.open_data(connection, first)
    smuggled = (
        f"MAIL FROM:<{trial.sender(second)}>\r\nRCPT TO:<{trial.target.recipient}>\r\nDATA\r\n"
        f"From: {second}@sender.example\r\nSubject: {second}\r\n\r\nsmuggled\r\n.\r\n"
    )
    trial.never_alone(second, first, "the smuggled message is stored as one of its own")
    connection.last = "the real end of DATA"
    connection.send(trial.message(first, b"first" + forged + smuggled.encode()))
    reply = trial.one_answer(connection)
    if reply is None:
        return
    expect(reply.code == 250 or reply.code >= 400, f"answered {reply}")
    if not reply.ok:
        trial.never_stored(first, "refused, but stored")


for name, forged in FORGED.items():
    register(name, forged)
