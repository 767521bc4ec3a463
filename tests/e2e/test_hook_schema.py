"""The schemas of the hook protocol: a validator from elsewhere takes for good what we do, and nothing else."""

import json
from pathlib import Path

import jsonschema_rs
import pytest

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "docs/schema"
# The same answers that the parser is held against.
ANSWERS = json.loads((ROOT / "mairust-hooks/src/protocol/tests/responses.json").read_text())


def load(name):
    return json.loads((SCHEMA / name).read_text())


def validator(name):
    schema = load(name)
    assert schema["$id"] == f"https://mairust.dev/schema/{name}"
    jsonschema_rs.meta.validate(schema)
    return jsonschema_rs.Draft202012Validator(schema)


REQUEST = validator("hook-request-v1.json")
RESPONSE = validator("hook-response-v1.json")


@pytest.mark.parametrize("name", sorted(path.name for path in (SCHEMA / "examples").glob("request-*.json")))
def test_examples_of_requests_are_valid(name):
    REQUEST.validate(load(f"examples/{name}"))


def test_the_example_of_an_answer_is_valid():
    RESPONSE.validate(load("examples/response.json"))


def test_a_request_without_its_parts_is_not_valid():
    example = load("examples/request-pre-receive.json")
    optional = {"session", "envelope", "auth_results", "policy"}
    for field in example:
        rest = {name: value for name, value in example.items() if name != field}
        assert REQUEST.is_valid(rest) == (field in optional), field
        # What may not be seen is left out, and is never null.
        assert REQUEST.is_valid(rest | {field: None}) == (field == "callback"), field


@pytest.mark.parametrize("row", ANSWERS, ids=lambda row: row["why"])
def test_answers_are_valid_as_the_table_says(row):
    # What is good is valid. What is bad is not, unless a schema can't tell.
    assert row["error"] or row["schema"]
    assert RESPONSE.is_valid(row["response"]) == row["schema"]
