//! Tagout: nothing that production depends on is destroyed until a person has signed for it.
//!
//! The story of one request. The API server, following the entry of a rule ([`entries`]), posts a review to [`serve`],
//! which hands it to the [`gate`]. The gate reads it ([`review`]), asks [`guard`] which rules and facts matter, gathers
//! those facts from the [`cluster`], lets [`guard`] decide, and answers.
//!
//! The [`registrar`] keeps the entries as the rules ([`api`]) say, [`certificates`] keeps the API server's trust,
//! [`telemetry`] logs, counts and tells, [`notify`] has others hear of it, and [`cli`] is `kubectl tagout`.

pub mod actions;
pub mod api;
#[cfg(feature = "server")]
pub mod certificates;
pub mod cli;
pub mod cluster;
pub mod entries;
pub mod gate;
pub mod guard;
pub mod notify;
#[cfg(feature = "server")]
pub mod registrar;
pub mod review;
#[cfg(feature = "server")]
pub mod serve;
pub mod telemetry;
