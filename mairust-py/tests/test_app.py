"""What is known when the module of hooks is imported."""

import asyncio

import mairust
import pytest
from mairust import ConfigurationError, Message, Quarantine, Reject, TempFail, allow, quarantine, reject, tempfail


@pytest.fixture
def app():
    return mairust.App()


def test_unknown_keywords_are_no_keywords(app):
    with pytest.raises(TypeError):

        @app.pre_receive(prority=10)
        def hook(msg):
            pass


@pytest.mark.parametrize(
    "options, problem",
    [
        ({"priority": 1001}, "priority"),
        ({"timeout": 3.5}, "timeout is at most 3 seconds"),
        ({"timeout": 0}, "timeout"),
        ({"on_failure": "drop"}, "on_failure is one of"),
        ({"on_open": "drop"}, "on_open is one of"),
        ({"required": True, "on_failure": "allow"}, "mail would pass without it"),
        ({"required": True, "on_open": "allow"}, "mail would pass without it"),
        ({"read_body": "all"}, "read_body"),
        ({"read_attachments": "all"}, "read_attachments"),
        ({"max_inflight": 0}, "max_inflight"),
    ],
)
def test_what_can_t_be_is_an_error_at_import(app, options, problem):
    with pytest.raises(ConfigurationError, match=problem):
        app.pre_receive(**options)(lambda msg: None)
    assert app.hooks == ()


def test_names_are_unique(app):
    def hook(msg):
        pass

    app.pre_receive(hook)
    with pytest.raises(ConfigurationError, match="two hooks named 'hook'"):
        app.post_receive(hook)
    app.post_receive(name="other")(hook)
    assert [one.name for one in app.hooks] == ["hook", "other"]


def test_a_required_hook_refuses_for_now_when_it_fails(app):
    app.pre_receive(required=True, name="r")(lambda msg: None)
    assert app.hooks[0].on_failure == "tempfail"


def test_hooks_are_sorted_by_priority_then_name(app):
    for name, priority in [("b", 100), ("a", 100), ("z", 5)]:
        app.pre_receive(name=name, priority=priority)(lambda msg: None)
    assert [hook.name for hook in app.hooks] == ["z", "a", "b"]


def test_recipients_are_patterns(app):
    app.pre_receive(recipients=["support@*", "a.?@example.com"])(lambda msg: None)
    hook = app.hooks[0]
    for address, wanted in [("Support@Example.com", True), ("a.b@example.com", True), ("aXb@example.com", False),
                            ("nosupport@example.com", False)]:
        assert hook.is_for([address]) == wanted, address


@pytest.mark.parametrize(
    "returned, answer",
    [
        (None, {"verdict": "allow"}),
        (allow(score=1, tags=["a", "b"]), {"verdict": "allow", "score": 1, "actions": [{"op": "tag.add", "tags": ["a", "b"]}]}),
        (allow(move="Junk", headers={"X-A": "b"}, metadata={"k": [1]}),
         {"verdict": "allow", "actions": [{"op": "move", "folder": "Junk"}, {"op": "header.add", "name": "X-A", "value": "b"},
                                          {"op": "metadata.set", "key": "k", "value": [1]}]}),
        (quarantine("odd"), {"verdict": "quarantine", "reason": "odd"}),
        (reject(), {"verdict": "reject"}),
        (reject("no", code=554, enhanced="5.7.9"), {"verdict": "reject", "smtp": {"code": 554, "enhanced": "5.7.9", "text": "no"}}),
        (tempfail("later"), {"verdict": "tempfail", "smtp": {"code": 451, "text": "later"}}),
    ],
)
def test_verdicts_are_answers_of_the_protocol(app, make_request, returned, answer):
    app.pre_receive(name="hook")(lambda msg: returned)
    assert app.test(Message.from_request(make_request())).to_dict() == answer


@pytest.mark.parametrize(
    "raised, name",
    [(Reject("no"), "reject"), (TempFail("later"), "tempfail"), (Quarantine("odd", tags=["x"]), "quarantine")],
)
def test_verdicts_can_be_raised(app, make_request, raised, name):
    @app.pre_receive
    async def hook(msg):
        raise raised

    assert app.test(Message.from_request(make_request())).name == name


@pytest.mark.parametrize("wrong", [True, False, "reject", 550, {"verdict": "reject"}])
def test_other_values_are_no_verdicts(app, make_request, wrong):
    app.pre_receive(name="hook")(lambda msg: wrong)
    with pytest.raises(TypeError, match="not a verdict or None"):
        app.test(Message.from_request(make_request()))


def test_a_stored_message_can_t_be_refused(app, make_request):
    app.post_receive(name="hook")(lambda msg: reject())
    with pytest.raises(TypeError, match="stored already"):
        app.test(Message.from_request(make_request(hook="post_receive")), point="post_receive")


def test_what_counts_most_is_said_and_actions_of_all_are_done(app, make_request):
    @app.pre_receive(priority=1)
    def first(msg):
        msg.add_tag("one")
        return allow(score=2)

    @app.pre_receive(priority=2)
    async def second(msg):
        assert msg.actions == ()
        return quarantine("odd", tags=["two"], score=1)

    verdict = app.test(Message.from_request(make_request()))
    assert (verdict.name, verdict.tags, verdict.score, verdict.reason) == ("quarantine", ["one", "two"], 2, "odd")
    assert app.test(Message.from_request(make_request()), hook="first").tags == ["one"]
    with pytest.raises(LookupError, match="first, second"):
        app.test(Message.from_request(make_request()), hook="third")


def test_nobody_is_asked_after_a_refusal(app, make_request):
    app.pre_receive(name="a", priority=1)(lambda msg: reject("no"))

    @app.pre_receive(priority=2)
    def b(msg):
        raise AssertionError("never")

    assert app.test(Message.from_request(make_request())).name == "reject"


def test_only_hooks_for_the_recipient_are_asked(app, make_request):
    app.pre_receive(name="a", recipients="other@*")(lambda msg: reject("no"))
    assert app.test(Message.from_request(make_request())).name == "allow"


def test_startup_comes_first_and_shutdown_last(app, make_request):
    order = []

    @app.on_startup
    async def begin():
        app.state.loop = asyncio.get_running_loop()
        order.append("begin")

    @app.on_startup
    def begin_more():
        order.append("more")

    @app.on_shutdown
    def end():
        order.append("end")

    @app.pre_receive
    async def hook(msg):
        assert app.state.loop is asyncio.get_running_loop()
        order.append("hook")

    app.test(Message.from_request(make_request()), lifespan=True)
    assert order == ["begin", "more", "hook", "end"]


def test_the_id_of_the_call_is_known_everywhere(app, make_request):
    seen = []

    @app.pre_receive
    async def hook(msg):
        seen.append((mairust.invocation_id.get(), msg.invocation_id))

    app.test(Message.from_request(make_request(call="inv_1")))
    assert seen == [("inv_1", "inv_1")] and mairust.invocation_id.get() is None


def test_errors_tell_whether_they_may_pass():
    assert mairust.StorageUnavailable().is_temporary and mairust.StorageFull().is_temporary
    assert not mairust.NotFound().is_temporary and not mairust.ConfigurationError().is_temporary
