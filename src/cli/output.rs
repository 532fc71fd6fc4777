//! What is written for programs.

use clap::ValueEnum;
use serde::Serialize;

use super::words::say;

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Json,
    Yaml,
    Name,
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    Json,
    Yaml,
}

/// Something that `-o name` names: `deployments.apps/api`.
pub trait Named {
    fn name(&self) -> String;
}

/// One alone as it is, several as a list.
pub fn print<T: Serialize + Named>(written: &[T], format: Format) -> anyhow::Result<()> {
    let document = match format {
        Format::Name => {
            return say(&written.iter().flat_map(|one| [one.name(), "\n".to_owned()]).collect::<String>());
        }
        Format::Json => Document::Json,
        Format::Yaml => Document::Yaml,
    };
    match written {
        [one] => document.print(one),
        several => document.print(&several),
    }
}

impl Document {
    pub fn print(self, value: &impl Serialize) -> anyhow::Result<()> {
        match self {
            Self::Json => say(&format!("{}\n", serde_json::to_string_pretty(value)?)),
            Self::Yaml => say(&serde_saphyr::to_string(&serde_json::to_value(value)?)?),
        }
    }
}
