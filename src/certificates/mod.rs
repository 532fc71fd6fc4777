//! The certificates by which the API server knows Tagout: made here and kept in a Secret that all replicas share, or
//! provided by somebody else. And those by which Tagout knows the API server, where it has one: made elsewhere, checked
//! here.
//!
//! An authority is trusted before anything is served by it, and as long as anything may be: [`stored`] says what follows
//! on what is found, without looking at a clock; the [`keeper`] reads, writes and serves.

mod authority;
mod callers;
mod keeper;
mod leaf;
mod lives;
pub mod provided;
mod secrets;
mod standing;
mod stored;
#[cfg(test)]
mod stored_tests;

pub use authority::Authority;
pub use callers::{Callers, Stranger};
pub use keeper::{Expiry, Keeper, Serving, Source};
pub use leaf::{Fault, Good, Leaf, Names};
pub use lives::{Lives, length};
pub use standing::Bundles;
pub use stored::{Served, Step, Stored, View};
