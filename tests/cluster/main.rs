//! Tagout on a real control plane: real API server, controllers and scheduler, driven by real kubectl and helm.
//!
//! One control plane with one installation of the chart serves all tests, a namespace each. Tests that break something
//! that others stand on start their own.

mod actions;
mod agreement;
mod approval_objects;
mod approvals;
mod bad_input;
mod break_glass;
mod carriers;
mod cascades;
mod cli;
mod cli_impact;
mod cli_signing;
mod collector;
mod connections;
mod controllers;
mod deletion;
mod epochs;
mod events;
mod forged_statements;
mod install;
mod loosening;
mod matrix;
mod outage;
mod plantings;
mod routine;
mod rules;
mod schema;
mod signature_forgeries;
mod signatures;
mod signing;
mod world;

#[path = "../redteam/mod.rs"]
mod redteam;
