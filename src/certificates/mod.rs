//! The certificates by which the API server knows Tagout: made here, kept in a Secret that all replicas share.

mod keeper;
mod pair;

pub use keeper::{Keeper, Names, Serving};
