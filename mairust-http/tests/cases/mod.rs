mod access;
mod content;
mod lists;
mod openapi;
mod ops;
mod send;
mod support;
mod wait;
