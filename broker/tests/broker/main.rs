//! The broker, through its API, its gateways and its links with hosts: one program, because each one more takes as long to
//! build as the broker does.

#![allow(missing_docs, clippy::unwrap_used)]

mod access;
mod access_in_scopes;
mod api;
mod apply;
mod brokers;
mod database;
mod events;
mod explain;
mod idempotency;
mod life;
mod monitoring;
mod network;
mod openapi;
mod roles;
mod scopes;
mod sessions;
mod snapshots;
mod streams;
mod support;
mod viewers;
