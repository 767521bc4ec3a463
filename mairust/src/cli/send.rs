//! `mairust send`: a message of this machine takes the way of all that is submitted, whether or not the server runs.

use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use mairust_core::{
    Clock, EmailAddress, Envelope, MessageDsn, Origin, Rejection, ReversePath, SystemClock, TenantId, Timestamp,
};
use mairust_http::PreviewedRecipient;
use mairust_smtp::server::HangUp;
use serde_json::{Value, json};

use super::directory::InTenant;
use super::output::{Failure, OutputFormat, print, print_as};
use super::run::builder;
use super::trail::{Changed, Trail};
use super::{moment, open};
use crate::distribution::Destination;
use crate::hooks::Way;
use crate::submit::{Author, Previewed, Submission, SubmissionError, Submissions, Submitted, addresses, previewed};
use crate::timeline;

/// The largest message that is read.
const MAX_SIZE: u64 = 256 << 20;

#[derive(Debug, Args)]
pub(super) struct SendArgs {
    /// The message (RFC 5322); without it, or as `-`, standard input is read
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The sender; without it, the first address of From
    #[arg(long, value_name = "ADDRESS")]
    from: Option<EmailAddress>,
    /// Recipients; without any, those of To, Cc and Bcc
    #[arg(long, value_name = "ADDRESS")]
    to: Vec<EmailAddress>,
    /// When it is to be sent (RFC 3339); at once without it
    #[arg(long, value_name = "TIME", value_parser = moment)]
    send_at: Option<Timestamp>,
    /// Only show what would be sent, and to whom; nothing is sent, kept or counted
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    tenant: InTenant,
}

pub(super) async fn run(arguments: &SendArgs) -> Result<(), Failure> {
    let raw = with_crlf(&read(arguments)?);
    let (sender, recipients) = envelope(arguments, &raw)?;
    let config = open::load(&arguments.tenant.config)?;
    let (storage, tenant) = arguments.tenant.open().await?;
    let server_key = open::server_key(&config, &storage).await?;
    let trail = Trail::open(&config, &storage, tenant.id).await?;
    let storage = Arc::new(storage);
    let submissions = builder(&config, storage.clone(), server_key)?.build()?.submissions();
    let submission = submission(&submissions, tenant.id, (sender, recipients), raw).await.map_err(refused)?;
    submissions
        .check_send_at(arguments.send_at, SystemClock.now())
        .map_err(|text| Failure::usage(format_args!("--send-at: {text}")))?;
    let submission = Submission { send_at: arguments.send_at, ..submission };
    if arguments.dry_run {
        let recipients = submission.destinations.iter().map(|to| previewed(to, tenant.id)).collect::<Vec<_>>();
        let preview = submissions.preview(submission).await;
        submissions.close().await;
        return show(arguments.tenant.format(), &preview.map_err(refused)?, &recipients);
    }
    let sender = submission.envelope.sender.to_string();
    let taken = submissions.submit(submission).await;
    submissions.close().await;
    let taken = taken.map_err(refused)?;
    let answer = as_json(&taken);
    let mut told = answer.clone();
    told["mail_from"] = json!(sender);
    trail.record(&storage, "message.submitted", ("message", &taken.id), Changed::made(told)).await?;
    let later = taken.send_at.map(|at| format!(", to be sent at {}", at.to_rfc3339())).unwrap_or_default();
    let text = format!("{} {}{later}", taken.id, taken.status.as_str());
    print_as(arguments.tenant.format(), &text, &answer)
}

fn read(arguments: &SendArgs) -> Result<Vec<u8>, Failure> {
    let mut raw = Vec::new();
    let file = arguments.file.as_deref().filter(|file| file.as_os_str() != "-");
    let done = match file {
        Some(file) => std::fs::File::open(file).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut raw)),
        None => std::io::stdin().lock().take(MAX_SIZE + 1).read_to_end(&mut raw),
    };
    done.map_err(|error| match file {
        Some(file) => Failure::usage(format_args!("{} can't be read: {error}", file.display())),
        None => Failure::usage(format_args!("standard input can't be read: {error}")),
    })?;
    match raw.len() as u64 {
        0 => Err(Failure::usage("there is no message: write --file, or give it by standard input")),
        size if size > MAX_SIZE => Err(Failure::usage(format_args!("the message is over {MAX_SIZE} bytes"))),
        _ => Ok(raw),
    }
}

/// Lines of files end as the machine ends lines, those of mail in CRLF.
fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(raw.len() + raw.len() / 32);
    for line in raw.split_inclusive(|octet| *octet == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        lines.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Whom it is from, and for.
fn envelope(arguments: &SendArgs, raw: &[u8]) -> Result<(EmailAddress, Vec<EmailAddress>), Failure> {
    let unfit = |rejection: Rejection| Failure::usage(rejection.reply().lines().join(" "));
    let sender = match &arguments.from {
        Some(sender) => sender.clone(),
        None => {
            let author = addresses::authors(raw).map_err(unfit)?.into_iter().next();
            author.ok_or_else(|| Failure::usage("From holds no address: write --from"))?
        }
    };
    let named = if arguments.to.is_empty() { addresses::recipients(raw).map_err(unfit)? } else { arguments.to.clone() };
    let mut recipients: Vec<EmailAddress> = Vec::new();
    for address in named {
        if recipients.iter().all(|known| known.lookup_key() != address.lookup_key()) {
            recipients.push(address);
        }
    }
    if recipients.is_empty() {
        return Err(Failure::usage("there is no recipient in To, Cc and Bcc: write --to"));
    }
    Ok((sender, recipients))
}

/// As an application of the tenant would send it.
async fn submission(
    submissions: &Submissions,
    tenant: TenantId,
    (sender, recipients): (EmailAddress, Vec<EmailAddress>),
    raw: Vec<u8>,
) -> Result<Submission, SubmissionError> {
    let author = Author { tenant, user: None };
    submissions.check_sender(&author, &sender).await?;
    let mut destinations: Vec<Destination> = Vec::with_capacity(recipients.len());
    for address in &recipients {
        submissions.check_recipient(tenant, address).await?;
        destinations.push(submissions.destination(address.clone()).await?);
    }
    let origin = Origin { user: Some("the command line".to_owned()), ..Origin::default() };
    Ok(Submission {
        author,
        envelope: Envelope { sender: ReversePath::Address(sender), recipients },
        destinations,
        session: timeline::command(&origin),
        way: Way::api(false),
        origin,
        protocol: "local",
        send_at: None,
        dsn: MessageDsn::default(),
        require_tls: false,
        body: raw.into(),
        hang_up: HangUp::never(),
        fingerprint: None,
    })
}

fn refused(error: SubmissionError) -> Failure {
    match error {
        SubmissionError::Denied { rejection, .. }
        | SubmissionError::HookUnavailable(rejection)
        | SubmissionError::Refused(rejection)
        | SubmissionError::Screened(rejection) => Failure::failed(rejection.reply()),
        SubmissionError::Store(error) => error.into(),
    }
}

fn as_json(taken: &Submitted) -> Value {
    let recipient = |(address, status): &(EmailAddress, &str)| json!({"email": address.to_string(), "status": status});
    json!({
        "id": taken.id.to_string(),
        "message_id": format!("<{}>", taken.message_id),
        "status": taken.status.as_str(),
        "send_at": taken.send_at.map(Timestamp::to_rfc3339),
        "recipients": taken.recipients.iter().map(recipient).collect::<Vec<_>>(),
    })
}

/// What would be sent: for people what would become of it, and then the message, octet for octet.
fn show(format: OutputFormat, preview: &Previewed, recipients: &[PreviewedRecipient]) -> Result<(), Failure> {
    let sent_to = |to: &PreviewedRecipient| to.sent_to.iter().map(ToString::to_string).collect::<Vec<_>>();
    let send_at = preview.send_at.map(Timestamp::to_rfc3339);
    if format == OutputFormat::Json {
        let recipient =
            |to: &PreviewedRecipient| json!({"email": to.address.to_string(), "kept": to.kept, "sent_to": sent_to(to)});
        let shown = json!({
            "message_id": format!("<{}>", preview.message_id),
            "size": preview.raw.len(),
            "send_at": send_at,
            "policy": preview.policy,
            "recipients": recipients.iter().map(recipient).collect::<Vec<_>>(),
            "raw_base64": STANDARD.encode(&preview.raw),
        });
        return print(&shown.to_string());
    }
    let policy = &preview.policy;
    let mut lines = vec![format!("policy: {}, score {:.2}", policy.decision, policy.score)];
    lines.extend(send_at.map(|at| format!("to be sent at {at}")));
    for to in recipients {
        let elsewhere = sent_to(to).join(", ");
        let way = match (to.kept, elsewhere.is_empty()) {
            (true, true) => "kept here".to_owned(),
            (true, false) => format!("kept here, and sent to {elsewhere}"),
            (false, true) => "kept by somebody else here".to_owned(),
            (false, false) => format!("sent to {elsewhere}"),
        };
        lines.push(format!("{}: {way}", to.address));
    }
    print(&format!("{}\n", lines.join("\n")))?;
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(b"\n").and_then(|()| stdout.write_all(&preview.raw)).and_then(|()| stdout.flush());
    written.map_err(|error| Failure::failed(format_args!("the message can't be shown: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_files_become_lines_of_mail() {
        for (file, mail) in [
            (&b"a\nb\n"[..], &b"a\r\nb\r\n"[..]),
            (b"a\r\nb", b"a\r\nb\r\n"),
            (b"\n\r\n", b"\r\n\r\n"),
            (b"\xff\r.\n", b"\xff\r.\r\n"),
        ] {
            assert_eq!(with_crlf(file), mail);
        }
    }
}
