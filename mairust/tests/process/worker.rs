use mairust_hooks::{HealthReport, HealthStatus};

use super::*;

/// Less than the wait before a first restart, so that a call does not wait for it.
const SHORT: Duration = Duration::from_millis(900);

fn worker(arguments: &[&str]) -> Program {
    Program::start(hook(arguments))
}

fn hook(arguments: &[&str]) -> ProcessHook {
    let mut hook = ProcessHook::new(PLUGIN, "peer.py", folder());
    hook.arguments = arguments.iter().map(Into::into).collect();
    hook.config = serde_json::from_value(json!({ "word": "invoice" })).unwrap();
    hook
}

/// Why the worker does not answer, once that has to do with `what`.
async fn until_failed(program: &Program, what: &str) -> (FailureKind, String) {
    loop {
        let (kind, text) = failed(program.ask_within(SHORT, order("allow")).await);
        if text.contains(what) {
            return (kind, text);
        }
    }
}

#[tokio::test]
async fn one_process_answers_many_calls() {
    let program = worker(&[]);
    let asked = (0..20).map(|n| program.ask(json!({ "do": "allow", "text": n.to_string() })));
    let answers: Vec<_> = futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
    let seen = program.ask(order("frames")).await.unwrap();
    assert_eq!(seen, format!("hello {}hook", "hook ".repeat(20)));
    assert_eq!(program.metric("restarts_total{}"), 0);
}

#[tokio::test]
async fn answers_come_in_any_order() {
    let program = worker(&[]);
    let waiting = program.ask_within(LONG, order("wait"));
    tokio::select! {
        answer = waiting => panic!("{answer:?}"),
        answer = program.ask(json!({ "do": "allow", "text": "overtakes" })) => assert_eq!(answer.unwrap(), "overtakes"),
    }
}

#[tokio::test]
async fn large_frames_pass_in_both_directions() {
    let program = worker(&[]);
    let answer = program.ask_within(LONG, json!({ "do": "big", "size": 900_000, "rest": "x".repeat(4 << 20) })).await;
    assert!(answer.unwrap().len() > 900_000);
    let (kind, text) = failed(program.ask(json!({ "do": "allow", "rest": "x".repeat(5 << 20) })).await);
    assert_eq!(kind, FailureKind::Crash);
    assert!(text.ends_with("octets; 5242880 are allowed"), "{text}");
    let (kind, text) = failed(program.ask(json!({ "do": "big", "size": 1 << 20 })).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Crash, "it wrote a frame of more than 1048576 octets"));
}

#[tokio::test]
async fn a_crash_fails_what_is_in_flight_and_nothing_else() {
    let program = worker(&[]);
    let (waits, crashes) = futures::join!(program.ask(order("wait")), program.ask(order("crash")));
    for answer in [waits, crashes] {
        let (kind, text) = failed(answer);
        assert_eq!((kind, text.as_str()), (FailureKind::Crash, "the process ended (exit status: 3)"));
    }
    let (kind, text) = failed(program.ask_within(SHORT, order("allow")).await);
    assert_eq!(
        (kind, text.as_str()),
        (FailureKind::Crash, "the process ended (exit status: 3); it is started again 1s later")
    );
    program.clock.advance(Duration::from_secs(1));
    assert_eq!(program.ask(json!({ "do": "allow", "text": "again" })).await.unwrap(), "again");
    assert_eq!(program.metric("restarts_total{}"), 1);
    assert_eq!(program.ask(order("answer and crash")).await.unwrap(), "last words");
}

#[tokio::test]
async fn a_call_waits_for_a_worker_that_is_started_again() {
    let program = worker(&[]);
    failed(program.ask(order("crash")).await);
    let asked = program.ask(json!({ "do": "allow", "text": "patient" }));
    let later = async { program.clock.advance(Duration::from_secs(1)) };
    assert_eq!(futures::join!(asked, later).0.unwrap(), "patient");
}

#[tokio::test]
async fn a_worker_that_ends_again_and_again_is_given_up() {
    let program = worker(&["exits"]);
    for wait in [1, 2, 4, 8] {
        let (kind, text) = until_failed(&program, &format!("again {wait}s later")).await;
        assert_eq!(kind, FailureKind::Crash);
        assert_eq!(text, format!("the process ended (exit status: 1); it is started again {wait}s later"));
        program.clock.advance(Duration::from_secs(wait));
    }
    let (kind, text) = until_failed(&program, "too often").await;
    let expected =
        "the worker ended too often and is not started any more; the last time the process ended (exit status: 1)";
    assert_eq!((kind, text.as_str()), (FailureKind::CrashLoop, expected));
    program.clock.advance(Duration::from_secs(86_400));
    assert_eq!(failed(program.ask(order("allow")).await).0, FailureKind::CrashLoop, "it stays so");
    let health = program.transport.health().await.unwrap();
    assert_eq!(health.status, HealthStatus::Error);
    assert!(health.details.contains("too often"), "{health:?}");
    assert_eq!(program.metric("restarts_total{}"), 4);
    program.transport.close().await;
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told_to_whoever_asks() {
    let program = Program::start(ProcessHook::new(PLUGIN, "/no/such/program", folder()));
    let (kind, text) = until_failed(&program, "/no/such/program can't be started: No such file").await;
    assert_eq!(kind, FailureKind::Crash);
    assert!(text.ends_with("; it is started again 1s later"), "{text}");
}

#[tokio::test]
async fn a_worker_has_to_be_ready_in_time_and_to_speak_our_language() {
    let watch = Watch::new().await;
    let program = worker(&["silent", &watch.port().to_string()]);
    let process = watch.process().await;
    pass(Duration::from_secs(6)).await;
    until_failed(&program, "the worker was not ready within 5s").await;
    assert_eq!(end_of(process).await, "", "it was killed");
    let program = worker(&["newer"]);
    until_failed(&program, "it speaks version 2 of the protocol, not 1").await;
}

#[tokio::test]
async fn a_call_that_is_too_late_is_cancelled() {
    let program = worker(&[]);
    program.ask(order("allow")).await.unwrap();
    let (kind, _) = failed(program.ask_within(Duration::from_secs(1), order("wait")).await);
    assert_eq!(kind, FailureKind::Timeout);
    assert_eq!(program.ask(order("frames")).await.unwrap(), "hello hook hook cancel health hook");
    let frames = order("frames");
    tokio::select! {
        biased;
        answer = program.ask(order("wait")) => panic!("{answer:?}"),
        // By then the call before was written.
        answer = program.ask(frames.clone()) => assert!(answer.unwrap().ends_with("hook hook")),
    }
    assert!(program.ask(frames).await.unwrap().ends_with("hook hook cancel health hook"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_may_leave_whenever_they_want() {
    let program = Arc::new(worker(&[]));
    let calls = (0..400_u64).map(|n| {
        let (program, request) = (program.clone(), json!({ "do": "allow", "text": n.to_string() }));
        tokio::spawn(async move {
            let asked = program.ask(request);
            // A third of them leaves before long: before it is written, before it is answered, or just then.
            match n % 3 {
                0 => drop(tokio::time::timeout(Duration::from_micros(50 * n), asked).await),
                _ => assert_eq!(asked.await.unwrap(), n.to_string()),
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!(program.metric("restarts_total{}"), 0);
}

#[tokio::test]
async fn strange_lines_do_no_harm() {
    let program = worker(&[]);
    assert_eq!(program.ask(order("prints")).await.unwrap(), "after all");
    assert_eq!(program.metric("lines_ignored_total{,reason=\"text\"}"), 3);
    assert_eq!(program.metric("lines_ignored_total{,reason=\"unreadable\"}"), 1);
    assert_eq!(program.metric("lines_ignored_total{,reason=\"unknown\"}"), 1);
    assert_eq!(program.ask(order("twice")).await.unwrap(), "first");
    program.ask(order("allow")).await.unwrap();
    assert_eq!(program.metric("lines_ignored_total{,reason=\"late\"}"), 2);
    program.ask(order("stderr")).await.unwrap();
    assert_eq!(program.metric("restarts_total{}"), 0);
}

#[tokio::test]
async fn a_worker_may_say_that_it_has_no_answer() {
    let program = worker(&[]);
    let (kind, text) = failed(program.ask(order("error")).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Crash, r"no idea\u{1b}[2J"));
    let (kind, _) = failed(program.ask(order("nothing")).await);
    assert_eq!(kind, FailureKind::Protocol);
}

#[tokio::test]
async fn a_worker_has_as_many_calls_as_it_takes() {
    let program = worker(&["two"]);
    program.ask(order("allow")).await.unwrap();
    let wait = || program.ask_within(Duration::from_millis(300), order("wait"));
    let late = program.ask_within(Duration::from_millis(200), order("allow"));
    let (one, two, three) = futures::join!(wait(), wait(), late);
    assert_eq!([one, two].map(|answer| failed(answer).0), [FailureKind::Timeout; 2]);
    assert_eq!(failed(three), (FailureKind::Busy, "the worker has too many calls to answer".to_owned()));
}

#[tokio::test]
async fn a_worker_that_reads_nothing_is_killed_and_keeps_nobody_waiting() {
    let (program, watch) = (worker(&[]), Watch::new().await);
    let stall = json!({ "do": "stall", "port": watch.port() });
    let time = Duration::from_secs(1);
    let large = json!({ "do": "allow", "rest": "x".repeat(1 << 20) });
    let asked = [stall, large.clone(), large.clone(), large.clone(), large.clone(), large];
    program.ask(order("allow")).await.unwrap();
    let start = Instant::now();
    let answers = futures::future::join_all(asked.map(|request| program.ask_within(time, request))).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(answers.into_iter().all(|answer| answer.is_err()));
    assert_eq!(end_of(watch.process().await).await, "", "it is killed");
    until_failed(&program, "the worker said nothing for twice the time that a call had").await;
}

#[tokio::test]
async fn a_worker_that_closes_its_output_is_killed() {
    let program = worker(&[]);
    let (kind, text) = failed(program.ask(order("close")).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Crash, "the worker closed its standard output"));
}

#[tokio::test]
async fn what_a_worker_has_started_ends_with_it() {
    let (program, watch) = (worker(&[]), Watch::new().await);
    program.ask(json!({ "do": "fork", "port": watch.port() })).await.unwrap();
    let process = watch.process().await;
    failed(program.ask(order("crash")).await);
    assert_eq!(end_of(process).await, "");
}

#[tokio::test]
async fn a_worker_tells_how_it_does() {
    let program = worker(&[]);
    let expected = HealthReport { status: HealthStatus::Degraded, details: "so-so".to_owned() };
    assert_eq!(program.transport.health().await, Some(expected), "as soon as it is ready");
    failed(program.ask(order("crash")).await);
    assert_eq!(program.transport.health().await.unwrap().status, HealthStatus::Error);
}

#[tokio::test]
async fn settings_are_told_at_once_and_to_those_who_come_later() {
    let program = worker(&[]);
    program.ask(order("allow")).await.unwrap();
    let config = serde_json::from_value(json!({ "word": "bill" })).unwrap();
    program.transport.configure(8, config);
    assert_eq!(program.ask(order("frames")).await.unwrap(), r#"hello hook config {"word": "bill"} hook"#);
}

#[tokio::test]
async fn a_worker_may_take_its_leave() {
    let watch = Watch::new().await;
    let program = worker(&["", &watch.port().to_string()]);
    program.ask(order("allow")).await.unwrap();
    within(program.transport.close()).await;
    assert_eq!(end_of(watch.process().await).await, "bye");
    assert_eq!(failed(program.ask(order("allow")).await).1, "the worker is told to end");
    // Dropped, it ends as well.
    let program = worker(&["", &watch.port().to_string()]);
    program.ask(order("allow")).await.unwrap();
    drop(program);
    assert_eq!(end_of(watch.process().await).await, "bye");
}

#[tokio::test]
async fn a_worker_that_stays_is_killed() {
    let watch = Watch::new().await;
    let program = worker(&["stays", &watch.port().to_string()]);
    program.ask(order("allow")).await.unwrap();
    let mut process = watch.process().await;
    let waiting = async {
        let mut said = [0; 2];
        process.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"no");
        pass(Duration::from_secs(6)).await;
    };
    futures::join!(program.transport.close(), waiting);
    assert_eq!(end_of(process).await, "");
}
