//! What is fuzzed: a function for each target, from bytes to a word for what came of them.
//!
//! A fault is a panic: of Tagout's own, or of what is asserted here, which says the same as Tagout once more in other
//! words. The words that are returned are the beginnings of the names of seeds, so that `cargo test --test fuzz` sees
//! that every seed still gets as far as it should.

pub mod audit_log;
pub mod certificates;
pub mod loosening;
pub mod review;
pub mod rule;
pub mod selector;
pub mod signature;
pub mod sshsig;
pub mod statements;
pub mod twin;
pub mod world;

pub use audit_log::audit_log;
pub use certificates::certificates;
pub use loosening::loosening;
pub use review::review;
pub use rule::rule;
pub use selector::selector;
pub use signature::signature;
pub use statements::statements;

/// One target.
pub type Target = fn(&[u8]) -> &'static str;

pub const TARGETS: [(&str, Target); 8] = [
    ("audit_log", audit_log),
    ("certificates", certificates),
    ("loosening", loosening),
    ("review", review),
    ("rule", rule),
    ("selector", selector),
    ("signature", signature),
    ("statements", statements),
];
