//! The only outgoing HTTP: one call of the Messages API, and what became of it.
//!
//! - [`request`]: from a job to the body that is sent; done once, when the job is read.
//! - [`client`]: the HTTP client with its protections, and [`Client::send`].
//! - [`key`]: where the API key comes from.
//!
//! Invariant: nothing here tries twice. A hidden retry would spend what the ledger never saw.
//! Invariant: an API failure is an [`Outcome`](crate::domain::attempt::Outcome), not an `Err`.
//! Invariant: only a complete message is an answer; whatever might have been billed and is not
//! one has an unknown fate.
//! Invariant: the key is in no message, no header record and no `Debug` output.

mod answer;
mod bounds;
mod call;
pub mod client;
mod error;
mod fields;
pub mod given;
mod head;
pub mod key;
mod parts;
pub mod request;
mod sight;
mod stream;

pub use client::{Auth, Client, ClientConfig, ClientError};
pub use parts::Parts;
pub use request::{Fallbacks, InvalidRequest, JobBody, Prepared, prepare};
pub use sight::Sight;
