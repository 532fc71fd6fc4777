//! Tagout on a real control plane: real API server, controllers and scheduler, driven by real kubectl and helm.
//!
//! One control plane with one installation of the chart serves all tests, a namespace each. Tests that break something
//! that others stand on start their own.

mod actions;
mod agreement;
mod approval_objects;
mod approvals;
mod bad_input;
mod balancer;
mod break_glass;
mod browser;
mod budgets;
mod carriers;
mod cascades;
mod certificates;
mod cli;
mod cli_history;
mod cli_impact;
mod cli_signing;
mod client_ca;
mod collector;
mod connections;
mod controllers;
mod definitions;
mod deletion;
mod docs;
mod doctor;
mod epochs;
mod events;
mod forged_reviews;
mod forged_statements;
mod freshness;
mod histories;
mod hostage;
mod install;
mod lock;
mod loosening;
mod matrix;
mod notify;
mod outage;
mod outcome;
mod plantings;
mod preview_replay;
mod preview_rule;
mod recreation;
mod replicas;
mod reviews;
mod routine;
mod rules;
mod schema;
mod signature_forgeries;
mod signatures;
mod signing;
mod storm;
mod traces;
mod versions;
mod watching;
mod world;

#[path = "../chart/expressions.rs"]
mod expressions;
#[path = "../history/mod.rs"]
mod history;
#[path = "../redteam/mod.rs"]
mod redteam;
