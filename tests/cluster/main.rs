//! Tagout on a real control plane: real API server, controllers and scheduler, driven by real kubectl and helm.
//!
//! One control plane with one installation of the chart serves all tests, a namespace each. Tests that break something
//! that others stand on start their own.

mod agreement;
mod approval_objects;
mod approvals;
mod bad_input;
mod break_glass;
mod cli;
mod cli_signing;
mod collector;
mod connections;
mod deletion;
mod epochs;
mod events;
mod forged_statements;
mod install;
mod loosening;
mod outage;
mod plantings;
mod routine;
mod rules;
mod schema;
mod signature_forgeries;
mod signatures;
mod signing;
mod world;
