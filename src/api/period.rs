use std::borrow::Cow;
use std::str::FromStr;

use jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

/// A length of time as Kubernetes writes it, like `30m` or `1h30m`. Kept as written, so that nothing is rewritten.
///
/// `kube`'s own type multiplies floating-point numbers and panics where they overflow; such text can come from anyone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Period(String);

impl Period {
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Its length, if it is one and longer than nothing.
    pub fn length(&self) -> Result<SignedDuration, String> {
        match SignedDuration::from_str(&self.0) {
            Ok(length) if length > SignedDuration::ZERO => Ok(length),
            _ => Err(format!("{:?} is not a duration longer than 0s, like 30m or 2h", self.0)),
        }
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        String::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("30m", 1800)]
    #[case("1800s", 1800)]
    #[case("1h30m", 5400)]
    #[case("1.5h", 5400)]
    #[case("168h", 604_800)]
    fn a_duration_is_read_as_go_reads_it(#[case] text: &str, #[case] seconds: i64) {
        assert_eq!(Period::new(text).length(), Ok(SignedDuration::from_secs(seconds)));
    }

    #[rstest]
    #[case("")]
    #[case("0s")]
    #[case("-5m")]
    #[case("1s-5s")]
    #[case("99999999999999999999999h")]
    #[case("1e400h")]
    #[case("soon")]
    fn what_is_no_length_of_time_is_an_error_and_no_panic(#[case] text: &str) {
        assert!(Period::new(text).length().is_err());
    }
}
