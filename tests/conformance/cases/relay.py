"""No relay for strangers, however the address is spelled."""

from suite import case, expect, known
from wire import Closed


def refuses(trial, path, sender="a@sender.example"):
    connection = trial.ready()
    expect(connection.command(f"MAIL FROM:<{sender}>").ok or sender != "a@sender.example", "MAIL is refused")
    try:
        reply = connection.command(f"RCPT TO:<{path}>")
    except Closed:
        return
    expect(not reply.ok, f"RCPT TO:<{path}>: {reply}")


def foreign(trial):
    return known(trial.target.foreign_recipient, "--foreign-recipient").rpartition("@")[::2]


def local_domain(trial):
    return trial.target.recipient.rpartition("@")[2]


SPELLINGS = [
    ("relay", "RFC 5321 §3.6.1", "An address elsewhere is refused.", "{user}@{other}"),
    ("relay-percent", "RFC 5321 Appendix F.1", "user%other@local is not relayed to other.", "{user}%{other}@{local}"),
    (
        "relay-source-route",
        "RFC 5321 Appendix C",
        "@local:user@other is not relayed to other.",
        "@{local}:{user}@{other}",
    ),
    (
        "relay-long-source-route",
        "RFC 5321 Appendix C",
        "@local,@b:user@other is not relayed.",
        "@{local},@b.example:{user}@{other}",
    ),
    ("relay-quoted-at", "RFC 5321 §4.1.2", '"user@other"@local is not relayed to other.', '"{user}@{other}"@{local}'),
    ("relay-bang", "RFC 5321 Appendix F.1", "other!user@local is not relayed to other.", "{other}!{user}@{local}"),
    ("relay-bare-bang", "RFC 5321 Appendix F.1", "other!user without a domain is not relayed.", "{other}!{user}"),
    ("relay-bare-percent", "RFC 5321 Appendix F.1", "user%other without a domain is not relayed.", "{user}%{other}"),
    ("relay-two-ats", "RFC 5321 §4.1.2", "user@other@local is no address.", "{user}@{other}@{local}"),
    ("relay-two-ats-reversed", "RFC 5321 §4.1.2", "user@local@other is no address.", "{user}@{local}@{other}"),
    ("relay-literal", "RFC 5321 §4.1.3", "An address at somebody else's IP address is refused.", "{user}@[192.0.2.1]"),
]


def register(identifier, source, sentence, spelling):
    @case(identifier, source, sentence, profiles=("mx",))
    def relay(trial):
        user, other = foreign(trial)
        refuses(trial, spelling.format(user=user, other=other, local=local_domain(trial)))


for row in SPELLINGS:
    register(*row)


@case(
    "relay-from-local-sender",
    "RFC 5321 §7.1",
    "A sender that claims to be local does not open the relay, nor does a bounce.",
    profiles=("mx",),
)
def relay_from_local_sender(trial):
    user, other = foreign(trial)
    for sender in (trial.target.recipient, ""):
        refuses(trial, f"{user}@{other}", sender)
