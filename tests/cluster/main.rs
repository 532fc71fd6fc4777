//! Tagout on a real control plane: real API server, controllers and scheduler, driven by real kubectl and helm.
//!
//! One control plane with one installation of the chart serves all tests, a namespace each. Tests that break something
//! that others stand on start their own.

mod agreement;
mod approvals;
mod bad_input;
mod cli;
mod collector;
mod connections;
mod deletion;
mod forged_statements;
mod install;
mod outage;
mod plantings;
mod routine;
mod rules;
mod schema;
mod world;
