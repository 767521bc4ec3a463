//! Whoever waits for hooks goes.

use std::task::Poll;

use super::*;

/// What a hook does with a message; when it hangs, the client of the message hangs up.
#[derive(Clone, Copy)]
enum Does {
    Answer,
    Fail,
    Hang,
}

/// Asks a hook that does this. What the call came to, and the state of the breaker after it.
async fn after(runner: &HookRunner, order: &Mutex<Does>, does: Does, text: &str) -> (&'static str, &'static str) {
    *order.lock().unwrap() = does;
    let (mail, point) = (letter(text), HookPoint::PreReceive);
    let stage = Stage::new(point, mail.clone(), facts(&mail));
    let mut was_asked = false;
    // The first time that somebody looks, the hook was not asked yet.
    let hangs_up = std::future::poll_fn(|context| {
        if matches!(does, Does::Hang) && was_asked {
            return Poll::Ready(());
        }
        was_asked = true;
        context.waker().wake_by_ref();
        Poll::Pending
    });
    let runs = match runner.of(tenant()).ask(&stage, hangs_up).await {
        Ok(Asked { runs, .. }) | Err(Abandoned { runs }) => runs,
    };
    assert!(runs.iter().all(|run| run.outcome != RunOutcome::Cancelled || !(run.let_pass || run.catch_up)));
    (runs[0].outcome.as_str(), state(runner, "moody").map_or("none", BreakerState::as_str))
}

#[tokio::test]
async fn a_client_that_hangs_up_says_nothing_about_the_hook() {
    use Does::{Answer, Fail, Hang};
    let clock = Arc::new(ManualClock::at(Timestamp::from_unix(0)));
    let order = Arc::new(Mutex::new(Answer));
    let does = order.clone();
    let hook = HookFn::pre_receive("moody", move |_: Mail| {
        let does = *does.lock().unwrap();
        async move {
            match does {
                Answer => Ok(Verdict::Allow),
                Fail => Err("no idea"),
                Hang => pending().await,
            }
        }
    });
    let mut binding = Binding { catch_up: true, ..Binding::new(Arc::new(hook)) };
    binding.pre_receive_breaker.jitter = 0.0;
    let runner = runner(vec![binding]).with_clock(clock.clone());
    let tables = [
        // More than would open it, and all about one message, which is no poison after it.
        &[("a", Hang, "cancelled", "closed"); 12][..],
        &[("a", Answer, "allow", "closed")],
        // Failures stay failures one after the other.
        &[("b", Fail, "crash", "closed"), ("x", Hang, "cancelled", "closed"), ("c", Fail, "crash", "closed")],
        &[("x", Hang, "cancelled", "closed"), ("d", Fail, "crash", "open"), ("e", Hang, "breaker_open", "open")],
        // The right to probe goes to the next message at once, and what was proved stays so.
        &[("e", Hang, "cancelled", "half_open"), ("e", Hang, "cancelled", "half_open")],
        &[("f", Answer, "allow", "half_open"), ("g", Hang, "cancelled", "half_open"), ("h", Answer, "allow", "closed")],
        &[("i", Fail, "crash", "closed"), ("j", Fail, "crash", "closed"), ("k", Fail, "crash", "open")],
        // A probe that fails is one, whoever hung up before it.
        &[("l", Hang, "cancelled", "half_open"), ("m", Fail, "crash", "open")],
    ];
    for (number, table) in tables.into_iter().enumerate() {
        for (text, does, outcome, state) in table {
            assert_eq!(after(&runner, &order, *does, text).await, (*outcome, *state), "{number}, {text}");
        }
        clock.advance(Duration::from_secs(60));
    }
}

#[tokio::test]
async fn nobody_else_is_asked_when_the_client_has_gone() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let hook = |name: &'static str, priority, hangs: bool| {
        let seen = seen.clone();
        let hook = HookFn::pre_receive(name, move |_: Mail| {
            seen.lock().unwrap().push(name);
            async move {
                if hangs {
                    pending().await
                }
            }
        });
        Binding { priority, ..Binding::new(Arc::new(hook)) }
    };
    let shadow = Binding { mode: Mode::Shadow, ..hook("hangs on trial", 2, true) };
    let bindings =
        vec![hook("answers", 1, false), hook("answers, too", 2, false), shadow, hook("is not asked", 3, false)];
    let runner = runner(bindings);
    let stage = Stage::new(HookPoint::PreReceive, mail(), facts(&mail()));
    let hangs_up = async {
        while seen.lock().unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    let Abandoned { runs } = runner.of(tenant()).ask(&stage, hangs_up).await.unwrap_err();
    let outcomes: Vec<_> = runs.iter().map(|run| (run.hook.as_str(), run.outcome.as_str())).collect();
    assert_eq!(outcomes, [("answers", "allow"), ("answers, too", "allow"), ("hangs on trial", "cancelled")]);
    assert_eq!(seen.lock().unwrap().len(), 3);
    let Abandoned { runs } = runner.of(tenant()).ask(&stage, std::future::ready(())).await.unwrap_err();
    assert!(runs.is_empty() && seen.lock().unwrap().len() == 3, "nobody at all");
}
