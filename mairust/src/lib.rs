//! A mail server as a library: durable receiving, queue, delivery, hooks and a REST API
