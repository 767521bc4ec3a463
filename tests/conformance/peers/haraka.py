"""Haraka from npm, with a plugin that knows addresses and one that writes a Maildir."""

import contextlib

from mailservers import Unavailable, free_port, haraka, process
from peers import HOSTNAME, IDN_DOMAIN, MAX_SIZE, PASSWORD, USER, Peer, certificate

NAME = "Haraka"
SETTINGS = (
    "`strict_rfc1869=true`, `data_line_length=1000`, `minVersion=TLSv1.2`; plugins of ours know addresses, ask users "
    "for their password under TLS only, and write a Maildir with Return-Path"
)
install = haraka.install


@contextlib.contextmanager
def start(folder):
    ports = {"mx": free_port(), "submission": free_port()}
    for name in ("new", "cur", "tmp"):
        (folder / "mail" / name).mkdir(parents=True)
    with contextlib.ExitStack() as running:
        for profile, port in ports.items():
            home = folder / profile
            configure(home, folder / "mail", profile, port)
            running.enter_context(process(haraka.command(home), folder / f"{profile}.log", [port]))
        yield Peer(haraka.VERSION, f"maildir:{folder}/mail", ports)


def configure(home, maildir, profile, port):
    """One instance: AUTH and the permission to relay belong to the submission port only."""
    config, plugins = home / "config", home / "plugins"
    for path in (config, plugins, home / "queue"):
        path.mkdir(parents=True)
    cert, key = certificate(config)
    cert.rename(config / "tls_cert.pem")
    key.rename(config / "tls_key.pem")
    names = ["tls", "addresses", "to_maildir"]
    if profile == "submission":
        names[1:1] = ["users"]
    files = {
        "smtp.ini": f"listen=127.0.0.1:{port}\n",
        "connection.ini": connection_settings(),
        "me": HOSTNAME + "\n",
        "plugins": "\n".join(names) + "\n",
        "tls.ini": "minVersion=TLSv1.2\n",
        "log.ini": "[main]\nlevel=warn\n",
    }
    for name, text in files.items():
        (config / name).write_text(text)
    (plugins / "addresses.js").write_text(ADDRESSES.replace("IDN", IDN_DOMAIN))
    (plugins / "to_maildir.js").write_text(TO_MAILDIR.replace("FOLDER", str(maildir)))
    (plugins / "users.js").write_text(USERS.replace("USER", USER).replace("PASSWORD", PASSWORD))


def connection_settings():
    """The file that Haraka comes with, with our values."""
    text = (haraka.PROGRAM.parents[1] / "config/connection.ini").read_text()
    for old, new in (
        ("; strict_rfc1869 = false", "strict_rfc1869 = true"),
        ("bytes=26214400", f"bytes={MAX_SIZE}"),
        ("data_line_length=992", "data_line_length=1000"),
    ):
        if old not in text:
            raise Unavailable(f"{old!r} is not in Haraka's connection.ini")
        text = text.replace(old, new)
    return text


ADDRESSES = """
const url = require('node:url')
const domains = ['example.com', 'IDN']
const local_parts = ['alice', 'bob', 'postmaster']

exports.hook_rcpt = function (next, connection, params) {
    const local = params[0].user.toLowerCase()
    if (!params[0].host) return local === 'postmaster' ? next(OK) : next(DENY, 'No such address')
    if (!domains.includes(url.domainToASCII(params[0].host.toLowerCase()))) {
        return connection.relaying ? next(OK) : next(DENY, 'Relaying is not permitted')
    }
    return local_parts.includes(local) ? next(OK) : next(DENY, 'No such address')
}
"""

# Haraka's own auth/flat_file takes passwords without TLS from private addresses, which loopback is.
USERS = """
const DSN = require('haraka-dsn')

exports.register = function () {
    this.inherits('auth/auth_base')
}

exports.hook_capabilities = function (next, connection) {
    if (connection.tls.enabled) {
        connection.capabilities.push('AUTH PLAIN LOGIN')
        connection.notes.allowed_auth_methods = ['PLAIN', 'LOGIN']
    }
    next()
}

exports.get_plain_passwd = function (user, connection, callback) {
    callback(user === 'USER' ? 'PASSWORD' : null)
}

exports.hook_mail = function (next, connection) {
    return connection.relaying ? next() : next(DENY, DSN.sec_unauthorized('Authentication is required', 530))
}
"""

TO_MAILDIR = """
const fs = require('node:fs')
const path = require('node:path')

exports.hook_queue = function (next, connection) {
    const transaction = connection.transaction
    const file = path.join('FOLDER', 'tmp', transaction.uuid)
    const stream = fs.createWriteStream(file)
    stream.once('error', () => next(DENYSOFT, 'The message cannot be stored'))
    stream.once('close', () => {
        fs.renameSync(file, path.join('FOLDER', 'new', transaction.uuid))
        next(OK)
    })
    stream.write(`Return-Path: ${transaction.mail_from.format()}\\r\\n`)
    transaction.message_stream.pipe(stream)
}

// Submitted mail for elsewhere goes nowhere.
exports.hook_queue_outbound = exports.hook_queue
"""
