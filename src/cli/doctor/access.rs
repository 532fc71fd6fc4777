//! Who can pass by what Tagout guards, by rights that they hold.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{
    CLUSTER_ADMINS, DANGLING_BINDING, Finding, Fix, INDIRECT_RIGHTS, MANAGED_RIGHTS, MASTERS_BOUND, MASTERS_CALLER,
    MASTERS_MAPPED, OTHER_AUTHORIZATION, STRONG_RIGHTS, Severity, Stage,
};
use super::provider::Provider;
use super::rbac::{Binding, Grant, Holder, Role, grants, is_everything};
use super::rights::{Hit, becomes, hits};
use super::snapshot::Snapshot;
use super::stock::{is_stock, source};

const MASTERS: &str = "system:masters";

/// What one holder may that matters, and by which bindings.
#[derive(Default)]
struct Held<'a> {
    everything: bool,
    /// Whether something of it is nobody's but the cluster's own people's.
    unmanaged: bool,
    hits: Vec<(Hit, &'a Binding)>,
}

pub fn check(snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let mut findings = masters(snapshot);
    findings.extend(outside(snapshot, stage));
    if let (Some(roles), Some(bindings)) = (&snapshot.roles, &snapshot.bindings) {
        let teams = snapshot.setting.rules().teams.values();
        let approvers = teams.flat_map(|team| {
            let groups = team.spec.groups.iter().map(|group| format!("Group/{group}"));
            groups.chain(team.spec.members.iter().map(|member| format!("User/{}", member.user)))
        });
        let approvers: Vec<_> = approvers.collect();
        findings.extend(judge(bindings, roles, &snapshot.home, &approvers, snapshot.provider()));
    }
    findings
}

/// Everybody who holds rights that matter, whoever gave them.
pub fn holders(snapshot: &Snapshot) -> BTreeSet<Holder> {
    let (roles, bindings) = (snapshot.roles.as_deref(), snapshot.bindings.as_deref());
    let all = grants(bindings.unwrap_or_default(), roles.unwrap_or_default());
    all.into_iter().filter(|(_, grant)| !hits(grant, &snapshot.home).is_empty()).map(|(holder, _)| holder).collect()
}

/// `home` is Tagout's namespace; `approvers` are those of all teams, as findings name them.
fn judge(
    bindings: &[Binding],
    roles: &[Role],
    home: &str,
    approvers: &[String],
    provider: Option<Provider>,
) -> Vec<Finding> {
    let mut findings: Vec<_> =
        bindings.iter().filter(|binding| binding.role(roles).is_none()).filter_map(dangling).collect();
    let mut others = grants(bindings, roles);
    others.retain(|(holder, grant)| !is_stock(grant, holder, home, approvers));

    let mut strong: BTreeMap<&Holder, Held> = BTreeMap::new();
    let mut managed: BTreeMap<&str, BTreeMap<&Holder, BTreeSet<&str>>> = BTreeMap::new();
    for (holder, grant) in &others {
        let found = hits(grant, home);
        if found.is_empty() {
            continue;
        }
        let held = strong.entry(holder).or_default();
        match manager(grant.binding, holder, provider) {
            Some(manager) => {
                managed.entry(manager).or_default().entry(holder).or_default().insert(grant.binding.name());
            }
            None => held.unmanaged = true,
        }
        held.everything |= grant.binding.namespace().is_none() && is_everything(grant.role);
        held.hits.extend(found.into_iter().map(|hit| (hit, grant.binding)));
    }
    // Of who does everything by membership it is said once, above.
    strong.retain(|holder, _| **holder != Holder::Group(MASTERS.to_owned()));
    findings.extend(managed.iter().map(|(manager, holders)| managed_rights(manager, holders)));
    // By way of the provider's own a path may go; where it starts with them it is in the note above.
    let is_theirs = |holder: &Holder| {
        let mut own = others.iter().filter(|(other, _)| other == holder);
        own.all(|(_, grant)| manager(grant.binding, holder, provider).is_some())
    };
    let mut indirect = indirect(&others, &strong);
    indirect.retain(|holder, _| !is_theirs(holder));
    let unmanaged = strong.into_iter().filter(|(_, held)| held.unmanaged);
    findings.extend(unmanaged.map(|(holder, held)| held.finding(holder)));
    findings.extend(indirect.iter().map(|(holder, path)| path.finding(holder)));
    findings
}

/// What allows things beside RBAC. Where a provider always does, it is no fault at first.
fn outside(snapshot: &Snapshot, stage: Stage) -> Vec<Finding> {
    let object = "APIServer/authorization";
    let mut findings = Vec::new();
    if let Some(why) = &snapshot.outside.incomplete {
        let by = snapshot.provider().and_then(Provider::authorizes_by);
        let (severity, words) = match by {
            Some(by) => (stage.default_choice(), format!("Look at who may what by {by}: no request tells it.")),
            None => (Severity::Warning, AUTHORIZATION.to_owned()),
        };
        let says = format!("the API server cannot list its user's rights in full ({why})");
        findings.push(Finding::new(&OTHER_AUTHORIZATION, severity, object, says).fix(Fix::words(words)));
    }
    if snapshot.outside.allows_nobody {
        let says = "a user whom nobody knows may delete deployments in kube-system";
        let fix = Fix::words(AUTHORIZATION);
        findings.push(Finding::new(&OTHER_AUTHORIZATION, Severity::Warning, object, says).fix(fix));
    }
    findings
}

const AUTHORIZATION: &str = "Look at --authorization-mode and --authorization-config of the API server, and ask whoever \
                             runs it who else decides.";

/// Of whose provider or installer a grant is. It is said more quietly, and never left out.
fn manager(binding: &Binding, holder: &Holder, provider: Option<Provider>) -> Option<&'static str> {
    let kubeadm = "kubeadm:cluster-admins";
    let by_kubeadm = (binding.name(), binding.role.as_str()) == (kubeadm, "cluster-admin")
        && *holder == Holder::Group(kubeadm.to_owned());
    let provider = provider.filter(|provider| provider.owns(holder, binding)).map(Provider::name);
    if by_kubeadm { Some(kubeadm) } else { provider }
}

impl Held<'_> {
    fn finding(self, holder: &Holder) -> Finding {
        if self.everything && holder.is_people() {
            let bindings = said(self.hits.iter().map(|(_, binding)| *binding));
            let says = format!("may do everything in the cluster, by {bindings}");
            let fix = fix(
                self.hits.iter().map(|(_, binding)| *binding),
                "Give people a role that reads, like view, for \
                every day, and keep this one for few, and for emergencies. With proof HardwareKey it approves nothing.",
            );
            return Finding::new(&CLUSTER_ADMINS, Severity::Warning, holder.object(), says).fix(fix);
        }
        let severity = self.hits.iter().map(|(hit, _)| hit.right.severity).max().unwrap_or(Severity::Warning);
        let mut may: BTreeMap<&str, (&Hit, Vec<&Binding>)> = BTreeMap::new();
        for (hit, binding) in &self.hits {
            may.entry(hit.right.code).or_insert((hit, Vec::new())).1.push(binding);
        }
        let everybody = match holder {
            Holder::Group(name) if name == "system:authenticated" => "everybody who is known to the cluster ",
            Holder::Group(name) if name == "system:unauthenticated" => "everybody who reaches the API server ",
            Holder::Group(name) if name == "system:serviceaccounts" => "every pod in the cluster ",
            Holder::Group(name) if name.starts_with("system:serviceaccounts:") => "every pod in that namespace ",
            _ => "",
        };
        let mut all: Vec<_> = may.values().collect();
        all.sort_by_key(|(hit, _)| std::cmp::Reverse(hit.right.severity));
        let each = all
            .iter()
            .map(|(hit, bindings)| format!("{} ({}, by {})", hit.right.words, hit.by, said(bindings.iter().copied())));
        let says = format!("{everybody}may {}", each.collect::<Vec<_>>().join("; "));
        let rights: BTreeSet<_> = may.keys().copied().collect();
        let fix = fix(
            self.hits.iter().map(|(_, binding)| *binding),
            "Take the subject out of the binding, or what it does \
            not need out of the role.",
        );
        let finding = Finding::new(&STRONG_RIGHTS, severity, holder.object(), says).fix(fix);
        Finding { rights: rights.into_iter().collect(), ..finding }
    }
}

/// How somebody becomes an account that has such rights.
struct Path<'a> {
    /// Over which accounts, and by which bindings.
    steps: String,
    rights: BTreeSet<&'static str>,
    first: &'a Binding,
}

/// Who may become, one after the other, a service account that has such rights.
fn indirect<'a>(others: &[(Holder, Grant<'a>)], strong: &BTreeMap<&Holder, Held>) -> BTreeMap<Holder, Path<'a>> {
    let mut reached: BTreeMap<Holder, Path> = BTreeMap::new();
    let mut accounts: Vec<(Holder, String, BTreeSet<&'static str>)> = strong
        .iter()
        .filter(|(holder, _)| holder.accounts().is_some())
        .map(|(holder, held)| {
            let rights: BTreeSet<_> = held.hits.iter().map(|(hit, _)| hit.right.code).collect();
            ((*holder).clone(), holder.object(), rights)
        })
        .collect();
    while let Some((account, path, rights)) = accounts.pop() {
        let Some((namespace, name)) = account.accounts() else { continue };
        for (holder, grant) in others {
            let has_them =
                |held: &Held| rights.iter().all(|code| held.hits.iter().any(|(hit, _)| hit.right.code == *code));
            if strong.get(holder).is_some_and(has_them) || reached.contains_key(holder) || *holder == account {
                continue;
            }
            let Some(by) = becomes(grant, namespace, name) else { continue };
            let steps = format!("{path} ({by}, by {})", said([grant.binding]));
            if holder.accounts().is_some() {
                accounts.push((holder.clone(), format!("{}, and as that {steps}", holder.object()), rights.clone()));
            }
            reached.insert(holder.clone(), Path { steps, rights: rights.clone(), first: grant.binding });
        }
    }
    reached
}

impl Path<'_> {
    fn finding(&self, holder: &Holder) -> Finding {
        let rights: Vec<_> = self.rights.iter().copied().collect();
        let says = format!("may become {}, which holds: {}", self.steps, rights.join(", "));
        let fix = fix(
            [self.first],
            "Let the account with these rights live in a namespace of its own, in which nobody else starts pods.",
        );
        Finding { rights, ..Finding::new(&INDIRECT_RIGHTS, Severity::Warning, holder.object(), says).fix(fix) }
    }
}

fn masters(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    if snapshot.groups.iter().any(|group| group == MASTERS) {
        let name = &snapshot.setting.caller.name;
        let fix = Fix::words(
            "Log in as yourself, with a role, and keep credentials of system:masters under lock for \
                              emergencies.",
        );
        let object = format!("User/{name}");
        findings
            .push(Finding::new(&MASTERS_CALLER, Severity::Warning, object, "you are in system:masters now").fix(fix));
    }
    if snapshot.aws_auth.as_deref().is_some_and(|text| text.contains(MASTERS)) {
        let fix = Fix::words("Map the role to a group of people, by access entries of EKS, with a policy of its own.")
            .run(&["kubectl", "get", "configmap", "aws-auth", "-n", "kube-system", "-o", "yaml"]);
        let says = "maps roles or users of the cloud to system:masters";
        findings
            .push(Finding::new(&MASTERS_MAPPED, Severity::Warning, "ConfigMap/kube-system/aws-auth", says).fix(fix));
    }
    for binding in snapshot.bindings.iter().flatten() {
        let names = binding.subjects.iter().any(|subject| subject.kind == "Group" && subject.name == MASTERS);
        if names && (binding.name(), binding.role.as_str()) != ("cluster-admin", "cluster-admin") {
            let fix = fix([binding], "Bind a group of your own instead.");
            let says = format!("names system:masters, for {} {}", binding.role_kind, binding.role);
            findings.push(Finding::new(&MASTERS_BOUND, Severity::Warning, object(binding), says).fix(fix));
        }
    }
    findings
}

fn dangling(binding: &Binding) -> Option<Finding> {
    if binding.subjects.is_empty() {
        return None;
    }
    let says = format!("names {} {}, which is not there", binding.role_kind, binding.role);
    let fix = fix([binding], "Make the role, or remove the binding where it comes from.");
    Some(Finding::new(&DANGLING_BINDING, Severity::Note, object(binding), says).fix(fix))
}

fn managed_rights(manager: &str, holders: &BTreeMap<&Holder, BTreeSet<&str>>) -> Finding {
    let each = holders.iter().map(|(holder, bindings)| {
        format!("{} by {}", holder.object(), bindings.iter().copied().collect::<Vec<_>>().join(" and "))
    });
    let says = format!("have rights that matter here: {}", each.collect::<Vec<_>>().join("; "));
    let fix = Fix::words("Look who is in these groups and accounts; the provider or installer keeps the bindings.")
        .run(&["kubectl", "get", "clusterrolebindings", "-o", "wide"]);
    Finding::new(&MANAGED_RIGHTS, Severity::Note, format!("Provider/{manager}"), says).fix(fix)
}

fn object(binding: &Binding) -> String {
    let namespace = binding.namespace().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("{}/{namespace}{}", binding.kind(), binding.name())
}

fn said<'b>(bindings: impl IntoIterator<Item = &'b Binding>) -> String {
    let names: BTreeSet<String> = bindings
        .into_iter()
        .map(|binding| format!("{} of {} {:?}", object(binding), binding.role_kind, binding.role))
        .collect();
    names.into_iter().collect::<Vec<_>>().join(" and ")
}

/// How to come by the bindings: what something else would put back is changed there, and only looked at here.
fn fix<'b>(bindings: impl IntoIterator<Item = &'b Binding>, words: &str) -> Fix {
    let mut seen = BTreeSet::new();
    let mut sources = BTreeSet::new();
    let mut fix = Fix::words(words);
    for binding in bindings {
        if !seen.insert((binding.namespace(), binding.name())) {
            continue;
        }
        let kind = binding.kind().to_lowercase();
        let namespace: Vec<&str> = binding.namespace().map_or_else(Vec::new, |namespace| vec!["-n", namespace]);
        fix = if let Some(source) = source(binding) {
            sources.insert(source);
            fix.kubectl("get", &kind, &[&namespace[..], &["-o", "yaml"]].concat(), binding.name())
        } else {
            fix.kubectl("edit", &kind, &namespace, binding.name())
        };
    }
    if !sources.is_empty() {
        let from = sources.into_iter().collect::<Vec<_>>().join(", ");
        fix.words = format!("{} Change it at its source: {from}.", fix.words);
    }
    fix
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
