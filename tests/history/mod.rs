//! Random histories on a real API server: whatever people, pipelines and agents try in whatever order, it goes as the
//! documentation says.

pub mod cluster;
mod compare;
mod generator;
pub mod model;
pub mod operation;
mod perform;
pub mod run;
pub mod script;
pub mod shrink;
mod text;
pub mod world;
