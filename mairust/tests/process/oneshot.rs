use mairust::ProcessMode;

use super::*;

fn once(arguments: &[&str]) -> Program {
    let mut hook = ProcessHook::new(PLUGIN, "once.py", folder());
    hook.mode = ProcessMode::Oneshot;
    hook.arguments = arguments.iter().map(Into::into).collect();
    Program::start(hook)
}

#[tokio::test]
async fn a_process_reads_a_request_and_writes_an_answer() {
    let program = once(&[]);
    let large = "メール".repeat(500_000);
    assert_eq!(program.ask(json!({ "do": "allow", "text": "fine", "rest": large })).await.unwrap(), "fine");
    let asked = (0..4).map(|n| program.ask(json!({ "do": "allow", "text": n.to_string() })));
    let answers: Vec<_> = futures::future::join_all(asked).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, ["0", "1", "2", "3"]);
    assert_eq!(program.transport.health().await, None);
}

#[tokio::test]
async fn a_process_has_next_to_nothing_of_our_environment() {
    // It takes nothing from its standard input, and writes no JSON: that is for others to judge.
    let mut hook = ProcessHook::new(PLUGIN, "/usr/bin/env", folder());
    (hook.mode, hook.data) = (ProcessMode::Oneshot, "/var/lib/peer".into());
    let written = Program::start(hook).ask_within(LONG, Value::Null).await.unwrap();
    let mut names: Vec<_> = written.lines().filter_map(|line| line.split_once('=')).collect();
    names.sort_unstable();
    names.retain(|(name, _)| *name != "TZ");
    let of_ours = |name, otherwise: &str| std::env::var(name).unwrap_or(otherwise.to_owned());
    let (path, lang) = (of_ours("PATH", "/usr/local/bin:/usr/bin:/bin"), of_ours("LANG", "C.UTF-8"));
    let expected = [
        ("HOME", "/var/lib/peer"),
        ("LANG", &lang),
        ("MAIRUST_PLUGIN_ID", PLUGIN),
        ("MAIRUST_PROTOCOL", "1"),
        ("PATH", &path),
        ("PYTHONUNBUFFERED", "1"),
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn a_process_need_not_read() {
    let large = json!({ "text": "x".repeat(1 << 20) });
    assert_eq!(once(&["reads nothing"]).ask(large).await.unwrap(), "");
}

#[tokio::test]
async fn a_process_that_fails_has_no_answer() {
    let (kind, text) = failed(once(&[]).ask(order("fails")).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Crash, "the process ended (exit status: 7)"));
    let (kind, text) = failed(once(&[]).ask(Value::Null).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Crash, "the process ended (exit status: 1)"));
}

#[tokio::test]
async fn an_answer_has_an_end() {
    let program = once(&[]);
    let (kind, text) = failed(program.ask(json!({ "do": "big", "size": (1 << 20) + 1 })).await);
    assert_eq!((kind, text.as_str()), (FailureKind::Protocol, "the answer has more than 1048576 octets"));
}

#[tokio::test]
async fn a_process_is_killed_at_its_deadline() {
    let (program, watch) = (once(&[]), Watch::new().await);
    let request = json!({ "do": "hang", "port": watch.port() });
    let time_passes = async {
        let process = watch.process().await;
        pass(LONG).await;
        process
    };
    let (answer, process) = futures::join!(program.ask(request), time_passes);
    assert_eq!(failed(answer).0, FailureKind::Timeout);
    assert_eq!(end_of(process).await, "");
}

#[tokio::test]
async fn a_process_is_killed_when_nobody_waits_any_more() {
    let (program, watch) = (once(&[]), Watch::new().await);
    let request = json!({ "do": "hang", "port": watch.port() });
    let process = tokio::select! {
        process = watch.process() => process,
        answer = program.ask(request) => panic!("{answer:?}"),
    };
    assert_eq!(end_of(process).await, "");
}

#[tokio::test]
async fn what_a_process_has_started_ends_with_it() {
    let (program, watch) = (once(&[]), Watch::new().await);
    let answer = program.ask(json!({ "do": "fork", "port": watch.port() })).await;
    assert_eq!(answer.unwrap(), "forked", "although its pipes are held");
    assert_eq!(end_of(watch.process().await).await, "");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_told() {
    let mut hook = ProcessHook::new(PLUGIN, "nobody.py", folder());
    hook.mode = ProcessMode::Oneshot;
    let (kind, text) = failed(Program::start(hook.clone()).ask(order("allow")).await);
    let expected = format!("{}/nobody.py can't be started: No such file or directory", folder().display());
    assert_eq!(kind, FailureKind::Crash);
    assert!(text.starts_with(&expected), "{text}");
    hook.directory = "/no/such/directory".into();
    let (_, text) = failed(Program::start(hook).ask(order("allow")).await);
    assert!(text.ends_with("can't be started: there is no directory /no/such/directory"), "{text}");
}
