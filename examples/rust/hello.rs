use mairust::{DirectoryExt, Mail, Server, SqlStorage, StorageBackend, Verdict};

#[tokio::main]
async fn main() -> mairust::Result<()> {
    let storage = SqlStorage::sqlite("mail.db").fs_bodies("mail").open().await?;
    storage.directory().ensure_user("alice@example.com", "correct horse").await?;
    Server::builder("mx.example.com", storage)
        .smtp("127.0.0.1:2525")
        .submission("127.0.0.1:2587")
        .pre_receive("no-promo", |mail: Mail| async move {
            match mail.subject() {
                Some(s) if s.contains("PROMO") => Verdict::reject("promotions are not welcome here"),
                _ => Verdict::Allow,
            }
        })
        .build()? // reports every problem at once
        .run_until(mairust::shutdown_signal()) // the stop signal is an argument
        .await
}
