//! SMTP as a library: sans-IO session, tokio server and client
