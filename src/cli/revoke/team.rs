use anyhow::bail;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::Patch;
use kube::{Api, Client};
use serde_json::json;

use crate::api::{ApproverTeam, Revocation};
use crate::cli::approve::{ATTEMPTS, manager, may_not};
use crate::cli::cluster::plain;

/// What ended longer ago than clocks differ need not be listed any more.
const KEPT: SignedDuration = SignedDuration::from_hours(24);

pub fn revocation(statement: String, expires: Option<Timestamp>) -> Revocation {
    Revocation { statement, expires: expires.map(Time) }
}

/// Adds to the approvals of a team that count no more.
pub async fn revoke(client: &Client, team: &str, entries: &[Revocation], now: Timestamp) -> anyhow::Result<()> {
    let teams: Api<ApproverTeam> = Api::all(client.clone());
    for _ in 0..ATTEMPTS {
        let Some(found) = teams.get_opt(team).await.map_err(plain)? else {
            bail!("there is no team {team} any more, and without it this approval counts for nothing")
        };
        let revoked = with(&found.spec.revoked, entries, now);
        let patch = json!({
            "metadata": {"uid": found.metadata.uid, "resourceVersion": found.metadata.resource_version},
            "spec": {"revoked": revoked},
        });
        match teams.patch_metadata(team, &manager(), &Patch::Merge(patch)).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.is_conflict() => {}
            Err(kube::Error::Api(status)) if may_not(&status) => bail!(
                "{}\nWhat is signed can be put back until it is revoked: ask somebody who may patch approverteam {team} to \
                 add to spec.revoked:\n{}",
                status.message,
                lines(entries)
            ),
            Err(error) => return Err(plain(error)),
        }
    }
    bail!("team {team} changes all the time; try again")
}

fn with(listed: &[Revocation], entries: &[Revocation], now: Timestamp) -> Vec<Revocation> {
    let over = |entry: &Revocation| entry.expires.as_ref().is_some_and(|expires| now.duration_since(expires.0) > KEPT);
    let mut all: Vec<Revocation> = listed.iter().filter(|entry| !over(entry)).cloned().collect();
    for entry in entries {
        let ends = |entry: &Revocation| entry.expires.as_ref().map_or(Timestamp::MAX, |expires| expires.0);
        match all.iter_mut().find(|known| known.statement == entry.statement) {
            // Somebody may have listed it for a shorter time.
            Some(known) if ends(known) < ends(entry) => known.expires.clone_from(&entry.expires),
            Some(_) => {}
            None => all.push(entry.clone()),
        }
    }
    all
}

fn lines(entries: &[Revocation]) -> String {
    let line = |entry: &Revocation| {
        let expires = entry.expires.as_ref().map(|expires| format!("\n    expires: {}", expires.0)).unwrap_or_default();
        format!("  - statement: {}{expires}", entry.statement)
    };
    entries.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::statements::tests::NOW;

    fn entry(statement: &str, hours: i64) -> Revocation {
        revocation(statement.to_owned(), Some(NOW + SignedDuration::from_hours(hours)))
    }

    #[test]
    fn what_is_revoked_stays_so_until_it_is_long_over() {
        let listed = [entry("a", 1), entry("b", -1), entry("c", -25), revocation("d".into(), None)];
        let names: Vec<_> = with(&listed, &[entry("e", 1)], NOW).into_iter().map(|entry| entry.statement).collect();
        assert_eq!(names, ["a", "b", "d", "e"]);
    }

    #[test]
    fn nothing_is_listed_twice_or_for_a_shorter_time_than_before() {
        let listed = [revocation("a".into(), None)];
        assert_eq!(with(&listed, &[entry("a", 1)], NOW), listed);
    }
}
