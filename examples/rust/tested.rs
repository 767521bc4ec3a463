//! An application made of MaiRust, and its tests: a helpdesk that tags mail about invoices, and takes none for
//! `noreply@`.

use mairust::{Answer, DirectoryExt, Mail, MemoryStorage, Server, ServerBuilder, StorageBackend, SystemClock, Verdict};

/// All that makes the application; the tests put it on a server of theirs.
fn helpdesk(builder: ServerBuilder) -> ServerBuilder {
    builder
        .pre_receive("noreply", |mail: Mail| async move {
            match mail.envelope().recipients.iter().any(|to| to.local().as_str() == "noreply") {
                true => Verdict::reject("nobody reads this"),
                false => Verdict::Allow,
            }
        })
        .post_receive("invoices", |mail: Mail| async move {
            let is_invoice = mail.subject().is_some_and(|subject| subject.contains("invoice"));
            if is_invoice { Answer::allow().tag("invoice") } else { Answer::allow() }
        })
}

#[tokio::main]
async fn main() -> mairust::Result<()> {
    let storage = MemoryStorage::new(std::sync::Arc::new(SystemClock));
    for address in ["desk@example.com", "noreply@example.com"] {
        storage.directory().ensure_user(address, "correct horse").await?;
    }
    helpdesk(Server::builder("mx.example.com", storage))
        .smtp("127.0.0.1:2527")
        .build()?
        .run_until(mairust::shutdown_signal())
        .await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mairust::testkit::{Act, Server, Sink, Step};

    async fn start() -> mairust::Result<Server> {
        let users = ["desk@example.com", "noreply@example.com"];
        let setup = users.into_iter().fold(Server::builder(), |setup, user| setup.user(user, "correct horse"));
        setup.with(super::helpdesk).start().await
    }

    #[tokio::test]
    async fn invoices_are_tagged() -> mairust::Result<()> {
        let server = start().await?;
        for subject in ["invoice 1", "hello"] {
            let message = format!("Subject: {subject}\r\n\r\nx\r\n");
            assert!(server.receive("bob@remote.example", &["desk@example.com"], message).await?[0].is_positive());
        }
        server.settled().await?; // the hook has run
        let tags: Vec<_> = server.inbox("desk@example.com").await?.into_iter().map(|mail| mail.row.tags).collect();
        assert_eq!(tags, [vec!["invoice".to_owned()], vec![]]);
        Ok(())
    }

    #[tokio::test]
    async fn noreply_takes_nothing() -> mairust::Result<()> {
        let server = start().await?;
        let replies = server.receive("bob@remote.example", &["noreply@example.com"], "Subject: x\r\n\r\nx\r\n").await?;
        assert_eq!(replies[0].to_string(), "550 5.7.1 nobody reads this");
        assert!(server.inbox("noreply@example.com").await?.is_empty());
        Ok(())
    }

    #[tokio::test]
    async fn an_answer_waits_for_a_customer_whose_server_is_down() -> mairust::Result<()> {
        let server = start().await?;
        let down = Sink::builder().on(Step::Connect, Act::close().times(10));
        let remote = server.fleet().domain("remote.example", down).await?;
        let answer = "From: desk@example.com\r\nSubject: Re: hello\r\n\r\nx\r\n";
        server.submit("desk@example.com", &["bob@remote.example"], answer).await?;
        server.pass(Duration::from_secs(86_400)).await?; // takes some milliseconds
        assert_eq!(remote.messages().len(), 1);
        assert_eq!(remote.sessions().len(), 11);
        Ok(())
    }
}
