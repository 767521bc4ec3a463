"""The test vector of the hook protocol."""

import pytest
from mairust.signature import SignatureError, parse_secret, sign, sign_response, verify

SECRET = parse_secret("whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
CALL, TIME = "inv_01JABCDEFGHJKMNPQRSTVWXYZ0", "1705312800"
BODY = b'{"v":1,"hook":"pre_receive","plugin":{"id":"com.example.mairust.spam-filter"}}'
SIGNATURE = "sha256=5b793ad4b125134ab5f8d30ec2e41269fecd1b892c4035ce34b4a0e57305917f"
OLD = "sha256=8872836df88297e8cd9fd1219719f45b11eff514438c18ebebbd6dba0942d239"


def test_the_vector():
    assert SECRET == bytes(range(32)) and len(BODY) == 78
    assert sign(SECRET, CALL, TIME, BODY) == SIGNATURE
    assert sign(b"\xaa" * 32, CALL, TIME, BODY) == OLD
    answer = sign_response(SECRET, CALL, TIME, b'{"v":1,"verdict":"allow"}')
    assert answer == "sha256=fd0e84f01f3087351ea14c7b1d599ca82a067de528ea2db10b4d539e35ea0757"


def test_any_of_two_signatures_will_do():
    for secrets in ([SECRET], [b"\xaa" * 32], [b"x" * 32, SECRET]):
        assert verify(secrets, CALL, TIME, BODY, f"{SIGNATURE}, {OLD}", now=1705312800) in secrets


@pytest.mark.parametrize(
    "changed",
    [
        {"body": BODY + b" "},
        {"signatures": SIGNATURE[:-1] + "0"},
        {"signatures": ""},
        {"request_id": "inv_other"},
        {"request_id": ""},
        {"timestamp": "1705312801"},
        {"timestamp": "x"},
        {"now": 1705312800 + 301},
        {"now": 1705312800 - 301},
        {"secrets": [b"x" * 32]},
        {"secrets": []},
    ],
)
def test_anything_else_is_refused(changed):
    right = {"secrets": [SECRET], "request_id": CALL, "timestamp": TIME, "body": BODY, "signatures": SIGNATURE, "now": 1705312800}
    verify(**right)
    with pytest.raises(SignatureError):
        verify(**{**right, **changed})


@pytest.mark.parametrize("text", ["", "AAEC", "whsec_", "whsec_AAEC", "whsec_%%%%"])
def test_other_texts_are_no_secrets(text):
    with pytest.raises(ValueError, match="whsec_"):
        parse_secret(text)
