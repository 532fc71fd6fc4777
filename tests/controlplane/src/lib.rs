//! A real Kubernetes control plane on one machine, without containers, for tests.
//!
//! ```no_run
//! use controlplane::{ControlPlane, Options, User};
//!
//! # fn main() -> anyhow::Result<()> {
//! let cp = ControlPlane::start(&Options::default())?;
//! cp.kubectl(User::Alice).args(["get", "nodes"]).status()?;
//! # Ok(())
//! # }
//! ```
//!
//! The binaries are built once from pinned Go modules ([`Binaries`]), the API server, the controllers
//! and three simulated nodes run on free loopback ports ([`ControlPlane`]), and whatever happens to
//! the test, nothing of it stays behind ([`reaper`]).

pub mod binaries;
pub mod control_plane;
pub mod enclosure;
mod flags;
mod go_build;
pub mod installation;
mod kubeconfig;
mod names;
pub mod node;
mod node_files;
pub mod reaper;
pub mod users;

pub use binaries::{Binaries, Program};
pub use control_plane::{ControlPlane, Options};
pub use installation::Installation;
pub use node::Node;
pub use reaper::Reaper;
pub use users::User;
