use std::collections::BTreeSet;
use std::fmt;

use crate::api::{Requirement, printable};

/// A person with valid statements, and the teams in whose name they speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person<'s> {
    pub name: &'s str,
    pub teams: BTreeSet<&'s str>,
}

/// How many people a requirement still lacks, and who counts for it already.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing<'r> {
    pub any_of: &'r [String],
    pub needed: u8,
    pub lacking: u8,
    pub has: Vec<String>,
}

/// `1 of senior-sre, dba`, or `1 more of senior-sre, dba (has alice)`.
impl fmt::Display for Missing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let teams = self.any_of.join(", ");
        if self.has.is_empty() {
            return write!(f, "{} of {teams}", self.needed);
        }
        write!(f, "{} more of {teams} (has {})", self.lacking, printable(&self.has.join(", ")))
    }
}

/// The requirements that these people do not meet, when each person counts once over all of them.
///
/// People are seated one by one; a person may displace another who can sit elsewhere (augmenting paths), so that the
/// order in which people approved never decides whether their approvals suffice.
pub fn missing<'r>(require: &'r [Requirement], people: &[Person]) -> Vec<Missing<'r>> {
    let mut seats: Vec<Vec<usize>> = vec![Vec::new(); require.len()];
    for person in 0..people.len() {
        seat(person, require, people, &mut seats, &mut vec![false; require.len()]);
    }
    require
        .iter()
        .zip(seats)
        .filter(|(requirement, seated)| seated.len() < usize::from(requirement.count))
        .map(|(requirement, seated)| Missing {
            any_of: &requirement.any_of,
            needed: requirement.count,
            lacking: requirement.count - u8::try_from(seated.len()).unwrap_or(requirement.count),
            has: seated.into_iter().map(|person| people[person].name.to_owned()).collect(),
        })
        .collect()
}

fn seat(
    person: usize,
    require: &[Requirement],
    people: &[Person],
    seats: &mut [Vec<usize>],
    tried: &mut [bool],
) -> bool {
    for (index, requirement) in require.iter().enumerate() {
        if tried[index] || !requirement.any_of.iter().any(|team| people[person].teams.contains(team.as_str())) {
            continue;
        }
        tried[index] = true;
        if seats[index].len() < usize::from(requirement.count) {
            seats[index].push(person);
            return true;
        }
        for place in 0..seats[index].len() {
            if seat(seats[index][place], require, people, seats, tried) {
                seats[index][place] = person;
                return true;
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn require(entries: &[(&[&str], u8)]) -> Vec<Requirement> {
        entries
            .iter()
            .map(|(teams, count)| Requirement {
                any_of: teams.iter().map(ToString::to_string).collect(),
                count: *count,
            })
            .collect()
    }

    fn person<'a>(name: &'a str, teams: &[&'a str]) -> Person<'a> {
        Person { name, teams: teams.iter().copied().collect() }
    }

    #[test]
    fn one_of_any_named_team_is_enough() {
        let require = require(&[(&["sre", "dba"], 1)]);
        assert!(missing(&require, &[person("alice", &["dba"])]).is_empty());
        assert_eq!(missing(&require, &[])[0].lacking, 1);
    }

    #[test]
    fn a_person_of_two_teams_does_not_count_for_both() {
        let require = require(&[(&["sre"], 1), (&["dba"], 1)]);
        assert_eq!(missing(&require, &[person("alice", &["sre", "dba"])]).len(), 1);
    }

    #[test]
    fn the_order_in_which_people_approved_does_not_decide() {
        let require = require(&[(&["sre"], 1), (&["dba"], 1)]);
        let (alice, bob) = (person("alice", &["sre", "dba"]), person("bob", &["sre"]));
        assert!(missing(&require, &[alice.clone(), bob.clone()]).is_empty());
        assert!(missing(&require, &[bob, alice]).is_empty());
    }

    #[test]
    fn who_is_there_already_is_named() {
        let require = require(&[(&["sre"], 2)]);
        let missing = missing(&require, &[person("alice", &["sre"])]);
        assert_eq!((missing[0].lacking, missing[0].has.as_slice()), (1, ["alice".to_owned()].as_slice()));
    }

    /// Whether every requirement can be met, by trying every way to seat the people.
    fn can_be_met(require: &[Requirement], people: &[Person], seated: &mut Vec<usize>) -> bool {
        let Some(person) = people.get(seated.len()) else {
            let taken = |index| seated.iter().filter(|seat| **seat == index).count();
            return require.iter().enumerate().all(|(index, one)| taken(index) >= usize::from(one.count));
        };
        // The last choice is to be seated nowhere.
        (0..=require.len()).any(|index| {
            let fits =
                require.get(index).is_none_or(|one| one.any_of.iter().any(|team| person.teams.contains(team.as_str())));
            seated.push(index);
            let met = fits && can_be_met(require, people, seated);
            seated.pop();
            met
        })
    }

    proptest::proptest! {
        #[test]
        fn people_suffice_exactly_when_some_seating_of_them_does(
            asked in proptest::collection::vec((proptest::collection::vec(0_usize..4, 1..3), 1_u8..3), 1..4),
            in_teams in proptest::collection::vec(proptest::collection::vec(0_usize..4, 0..3), 0..6),
        ) {
            const TEAMS: [&str; 4] = ["sre", "dba", "net", "sec"];
            let require: Vec<_> = asked
                .iter()
                .map(|(teams, count)| Requirement {
                    any_of: teams.iter().map(|team| TEAMS[*team].to_owned()).collect(),
                    count: *count,
                })
                .collect();
            let names: Vec<_> = (0..in_teams.len()).map(|number| format!("person-{number}")).collect();
            let people: Vec<_> = in_teams
                .iter()
                .zip(&names)
                .map(|(teams, name)| Person { name, teams: teams.iter().map(|team| TEAMS[*team]).collect() })
                .collect();
            proptest::prop_assert_eq!(missing(&require, &people).is_empty(), can_be_met(&require, &people, &mut Vec::new()));
        }
    }
}
