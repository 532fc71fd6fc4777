use std::str::FromStr;
use std::time::Duration;

use jiff::SignedDuration;

/// How long certificates live, and how long two authorities are trusted beside each other.
#[derive(Debug, Clone, Copy)]
pub struct Lives {
    pub certificate: Duration,
    pub authority: Duration,
    /// For this long an authority is in every entry before anything is served by it. API servers hear of entries by
    /// watches of their own, within seconds.
    pub overlap: Duration,
}

/// An authority is replaced in four steps of at most this share of what is left then.
const OVERLAPS: u32 = 12;
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

impl Lives {
    /// Says what to change where these cannot work together.
    pub fn check(&self) -> Result<(), String> {
        if self.authority > LONGEST || self.certificate > self.authority {
            return Err(
                "--certificate-life can be no longer than --authority-life, and that no longer than 876000h".into()
            );
        }
        if self.overlap.checked_mul(OVERLAPS).is_none_or(|least| self.authority < least) {
            return Err(format!(
                "--authority-life must be at least {OVERLAPS} times --authority-overlap: one is replaced in its last third"
            ));
        }
        Ok(())
    }

    /// Renewed when a third is left: a renewal that fails has a month to be noticed, and an authority a year.
    pub(super) fn renew_certificate(&self) -> Duration {
        self.certificate / 3
    }

    pub(super) fn replace_authority(&self) -> Duration {
        self.authority / 3
    }

    /// With so little left the next one has to do, whether every entry has it or not.
    pub(super) fn hurry(&self) -> Duration {
        self.authority / OVERLAPS
    }

    /// Nothing is served by an authority any more that was followed by another so long ago: replicas change within one
    /// overlap, and see the Secret at different times.
    pub(super) fn drop_authority(&self) -> Duration {
        self.overlap * 2
    }

    /// How often to look: a Secret that was replaced, damaged or deleted is noticed within this time.
    pub(super) fn interval(&self) -> Duration {
        (self.overlap / 4).min(self.certificate / 12).clamp(Duration::from_millis(250), Duration::from_secs(5))
    }
}

/// Reads a length of time as Go writes it, of a second at least.
pub fn length(text: &str) -> Result<Duration, String> {
    SignedDuration::from_str(text)
        .ok()
        .and_then(|length| Duration::try_from(length).ok())
        .filter(|length| *length >= Duration::from_secs(1))
        .ok_or_else(|| format!("{text:?} is not a duration of at least 1s, like 10m or 2160h"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn lengths_are_written_as_go_writes_them() {
        assert_eq!(length("2160h"), Ok(Duration::from_hours(2160)));
        assert_eq!(length("1h30m"), Ok(Duration::from_mins(90)));
        for text in ["", "0s", "-5m", "90d!", "soon", "100ms", "99999999999999999999h"] {
            assert!(length(text).unwrap_err().contains("is not a duration"), "{text}");
        }
    }

    #[test]
    fn lives_that_leave_no_time_to_replace_an_authority_are_refused() {
        let lives = |certificate, authority, overlap| Lives { certificate, authority, overlap };
        assert_eq!(lives(HOUR, HOUR * 12, HOUR).check(), Ok(()));
        assert!(lives(HOUR, HOUR * 11, HOUR).check().unwrap_err().contains("--authority-overlap"));
        assert!(lives(HOUR, HOUR * 12, Duration::MAX).check().is_err());
        assert!(lives(HOUR * 13, HOUR * 12, HOUR).check().unwrap_err().contains("--certificate-life"));
        assert!(lives(HOUR, Duration::MAX, HOUR).check().is_err());
    }
}
