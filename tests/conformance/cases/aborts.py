"""Clients that vanish: nothing is stored, and the server lives on."""

from suite import case, expect


def vanishes(identifier, source, sentence, octets):
    @case(identifier, source, sentence)
    def abort(trial):
        connection, token = trial.ready(), trial.token()
        trial.open_data(connection, token)
        trial.never_stored(token, "an unfinished message is stored")
        connection.send(trial.message(token) + octets)
        connection.close()
        trial.connect().close()


vanishes("close-in-data", "RFC 5321 §4.1.1.4", "A connection that ends within DATA stores nothing.", b"")
vanishes(
    "close-in-line", "RFC 5321 §4.1.1.4", "A connection that ends within a line of DATA stores nothing.", b"half a li"
)
vanishes(
    "close-after-dot",
    "RFC 5321 §4.1.1.4",
    "A connection that ends after CRLF and dot, but without CRLF, stores nothing.",
    b".",
)
vanishes(
    "close-after-dot-cr", "RFC 5321 §4.1.1.4", "A connection that ends after CRLF, dot and CR stores nothing.", b".\r"
)


@case("reset-in-data", "RFC 5321 §4.1.1.4", "A connection that is reset within DATA stores nothing.")
def reset_in_data(trial):
    connection, token = trial.ready(), trial.token()
    trial.open_data(connection, token)
    trial.never_stored(token, "an unfinished message is stored")
    connection.send(trial.message(token))
    connection.reset()
    trial.connect().close()


@case("quit-in-transaction", "RFC 5321 §4.1.1.10", "QUIT before DATA ends the transaction without a message.")
def quit_in_transaction(trial):
    connection, token = trial.ready(), trial.token()
    trial.envelope(connection, token)
    trial.never_stored(token, "a message without DATA is stored")
    replies = connection.last_replies()
    expect([reply.code for reply in replies] == [221], f"answered {replies and replies[0]}")


@case("half-command", "RFC 5321 §2.3.8", "A command without its line end is not executed when the connection ends.")
def half_command(trial):
    token = trial.token()
    with trial.ready() as connection:
        trial.envelope(connection, token)
        trial.never_stored(token, "a message without DATA is stored")
        connection.send(b"DATA")
    trial.connect().close()
