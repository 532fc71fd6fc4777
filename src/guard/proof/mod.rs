//! How a statement is known to be its approver's, where it is signed.

mod key;
mod signature;

pub use key::{Key, KeyFault};
pub use signature::{Gesture, SignatureFault, Signed};
