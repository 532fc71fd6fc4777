//! When a rule lets nothing pass but an emergency.

use cronexpr::{Crontab, FallbackTimezoneOption, MakeTimestamp, ParseOptions, parse_crontab_with};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span, Timestamp};

use crate::api::Freeze;

/// The freezes of a rule.
#[derive(Debug, Default)]
pub struct Freezes(Vec<One>);

#[derive(Debug)]
struct One {
    when: When,
    reason: String,
}

#[derive(Debug)]
enum When {
    Once {
        from: Timestamp,
        until: Timestamp,
    },
    /// Begins by a schedule that is read as if there were no time zones: what the clocks show then is looked up in one.
    Often {
        schedule: Box<Crontab>,
        zone: TimeZone,
        lasts: SignedDuration,
    },
}

/// A freeze that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    pub until: Timestamp,
    pub reason: String,
}

/// A freeze that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    pub from: Timestamp,
    pub reason: String,
}

/// Freezes that follow one another without a pause are said to be one, as far as this many go.
const FOLLOWED: usize = 100;

impl Freezes {
    pub fn read(freezes: &[Freeze]) -> Result<Self, String> {
        let one = |(number, freeze): (usize, &Freeze)| {
            let when = When::read(freeze).map_err(|error| format!("freeze[{number}]: {error}"))?;
            Ok(One { when, reason: freeze.reason.clone() })
        };
        freezes.iter().enumerate().map(one).collect::<Result<_, String>>().map(Self)
    }

    /// The freeze that lasts at this time, the longest where there are several.
    pub fn at(&self, now: Timestamp) -> Option<Frozen> {
        let lasting = self.0.iter().filter_map(|one| Some((one.when.lasts_until(now)?, &one.reason)));
        let (until, reason) = lasting.max_by_key(|(until, _)| *until)?;
        Some(Frozen { until, reason: reason.clone() })
    }

    /// The next freeze that begins after this time.
    pub fn after(&self, now: Timestamp) -> Option<Coming> {
        let coming = self.0.iter().filter_map(|one| Some((one.when.begins_after(now)?, &one.reason)));
        let (from, reason) = coming.min_by_key(|(from, _)| *from)?;
        Some(Coming { from, reason: reason.clone() })
    }
}

/// Whether it is past, for good.
pub fn is_over(freeze: &Freeze, now: Timestamp) -> bool {
    matches!(When::read(freeze), Ok(When::Once { until, .. }) if until <= now)
}

impl When {
    fn read(freeze: &Freeze) -> Result<Self, String> {
        let Freeze { from, until, schedule, duration, time_zone, reason: _ } = freeze;
        let zone = TimeZone::get(time_zone).map_err(|_| format!("there is no time zone {time_zone:?}"))?;
        match (from, until, schedule, duration) {
            (Some(from), Some(until), None, None) => {
                let (from, until) = (moment(from, &zone)?, moment(until, &zone)?);
                if until <= from {
                    return Err("it ends before it begins".to_owned());
                }
                Ok(Self::Once { from, until })
            }
            (None, None, Some(schedule), Some(duration)) => {
                if schedule.split_whitespace().count() != 5 {
                    return Err("a schedule has five fields, like 0 18 * * 5".to_owned());
                }
                let mut options = ParseOptions::default();
                options.fallback_timezone_option = FallbackTimezoneOption::UTC;
                let schedule = parse_crontab_with(schedule, options).map_err(|error| format!("schedule: {error}"))?;
                let lasts = duration.length().map_err(|error| format!("duration: {error}"))?;
                let once = Self::Often { schedule: Box::new(schedule), zone, lasts };
                once.begins_after(Timestamp::UNIX_EPOCH).ok_or("it never begins")?;
                Ok(once)
            }
            _ => Err("say from and until, or schedule and duration".to_owned()),
        }
    }

    fn lasts_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, until } => (*from <= now && now < *until).then_some(*until),
            Self::Often { lasts, .. } => {
                let mut starts = self.starts(now.checked_sub(*lasts).ok()?);
                let mut until = starts.next().filter(|start| *start <= now)?.checked_add(*lasts).ok()?;
                for start in starts.take(FOLLOWED) {
                    if start > until {
                        break;
                    }
                    until = until.max(start.checked_add(*lasts).ok()?);
                }
                Some(until)
            }
        }
    }

    fn begins_after(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, .. } => (*from > now).then_some(*from),
            Self::Often { .. } => self.starts(now).next(),
        }
    }

    /// When it begins after a time. Where clocks are put forward over a beginning, it begins when they have been; where they
    /// are put back over it, the first time.
    fn starts(&self, after: Timestamp) -> Box<dyn Iterator<Item = Timestamp> + '_> {
        let Self::Often { schedule, zone, .. } = self else { return Box::new(std::iter::empty()) };
        // No clock was ever put forward or back by more than a day.
        let shown = zone.to_datetime(after).checked_sub(Span::new().hours(25)).unwrap_or(DateTime::MIN);
        let Ok(shown) = TimeZone::UTC.to_timestamp(shown) else { return Box::new(std::iter::empty()) };
        let Ok(all) = schedule.iter_after(MakeTimestamp(shown)) else { return Box::new(std::iter::empty()) };
        let real = |shown: Result<jiff::Zoned, _>| zone.to_timestamp(shown.ok()?.datetime()).ok();
        Box::new(all.map_while(real).filter(move |start| *start > after))
    }
}

fn moment(text: &str, zone: &TimeZone) -> Result<Timestamp, String> {
    let shown: DateTime = text.parse().map_err(|_| format!("{text:?} is no date and time like 2026-12-23T18:00"))?;
    zone.to_timestamp(shown).map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
#[path = "freeze_tests.rs"]
mod tests;
