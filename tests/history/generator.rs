//! Chooses what is tried next, by a seed: mostly where something is protected, often what nearly suffices, and in two or
//! three steps what would be refused in one.

use std::collections::VecDeque;

use controlplane::User;
use fastrand::Rng;

use super::model::{Limit, Model, Per, Rule};
use super::operation::{About, Cascade, Deleting, Draft, Edit, Life, Operation, Owner, Precondition, Route};
use super::world::{Action, Key, Kind, NAMES, PLACES, Place, Target, Team};

pub struct Generator {
    random: Rng,
    planned: VecDeque<Operation>,
    /// Whether replicas may be killed.
    kills: bool,
}

const EVERYBODY: [User; 6] = [User::Agent, User::Agent, User::Ci, User::Carol, User::Alice, User::Bob];

impl Generator {
    pub fn new(seed: u64, kills: bool) -> Self {
        Self { random: Rng::with_seed(seed), planned: VecDeque::new(), kills }
    }

    /// The rules of a history.
    pub fn rules(&mut self) -> Vec<Rule> {
        let all = || Kind::ALL.into_iter().filter(|kind| *kind != Kind::Service).collect();
        let mut main = Rule {
            name: "main",
            enforces: true,
            kinds: all(),
            namespaces: self.random.bool(),
            gold: false,
            actions: Action::USUAL.into_iter().chain([Action::Evict]).collect(),
            require: vec![(Team::Approvers, 1)],
            break_glass: Some(Team::Owners),
            tolerate: None,
            allowance: None,
            ceiling: None,
        };
        let gold = Rule {
            name: "gold",
            gold: true,
            namespaces: false,
            kinds: [Kind::ConfigMap, Kind::Deployment, Kind::Widget, Kind::Claim].into(),
            actions: Action::USUAL.into(),
            require: vec![(Team::Owners, 1)],
            break_glass: None,
            ..main.clone()
        };
        match self.random.u8(0..9) {
            0 => vec![main, gold],
            1 => {
                main.require = vec![(Team::Approvers, 2)];
                vec![main]
            }
            2 => {
                main.require = vec![(Team::Approvers, 1), (Team::Owners, 1)];
                vec![main]
            }
            3 | 4 => {
                main.ceiling = Some(self.limit());
                main.break_glass = Some(Team::Approvers);
                main.actions.remove(&Action::Evict);
                vec![main]
            }
            5 => {
                main.allowance = Some(self.limit());
                main.actions.remove(&Action::Evict);
                main.kinds.remove(&Kind::Pod);
                vec![main]
            }
            6 => {
                main.tolerate = Some(self.random.usize(1..3));
                main.kinds.remove(&Kind::Pod);
                vec![main]
            }
            7 => {
                main.enforces = false;
                vec![main, gold]
            }
            _ => vec![gold],
        }
    }

    fn limit(&mut self) -> Limit {
        let per = self.choose(&[Per::Requester, Per::Namespace, Per::Rule]);
        Limit { count: self.random.usize(1..4), per }
    }

    pub fn next(&mut self, model: &Model) -> Operation {
        let noise = self.random.u8(0..10) < 2;
        if !noise && let Some(planned) = self.planned.pop_front() {
            return planned;
        }
        if self.planned.is_empty() && self.random.u8(0..10) < 4 {
            self.plan(model);
        }
        self.single(model)
    }

    fn choose<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.usize(0..from.len())].clone()
    }

    fn user(&mut self) -> User {
        self.choose(&EVERYBODY)
    }

    fn approver(&mut self) -> User {
        self.choose(&[User::Alice, User::Alice, User::Bob, User::Bob, User::Carol])
    }

    fn any_key(&mut self) -> Key {
        let kind = self.choose(&Kind::ALL);
        // One namespace is busier than the others.
        let place = self.random.u8(0..PLACES).min(self.random.u8(0..PLACES));
        Key { kind, place, name: self.choose(&NAMES) }
    }

    /// Mostly one that is there.
    fn key(&mut self, model: &Model, fits: impl Fn(Kind) -> bool) -> Key {
        let there: Vec<Key> = model.objects.keys().copied().filter(|key| fits(key.kind)).collect();
        if !there.is_empty() && self.random.u8(0..20) > 0 {
            return self.choose(&there);
        }
        loop {
            let key = self.any_key();
            if fits(key.kind) {
                return key;
            }
        }
    }

    fn place(&mut self) -> Place {
        self.random.u8(0..PLACES)
    }

    fn create(&mut self, key: Key) -> Operation {
        Operation::Create { by: self.user(), key, gold: self.random.u8(0..3) == 0 }
    }

    fn delete(&mut self, key: Key) -> Operation {
        let how = Deleting {
            cascade: if self.random.u8(0..5) == 0 { Cascade::Foreground } else { Cascade::Background },
            dry_run: self.random.u8(0..10) == 0,
            precondition: match self.random.u8(0..20) {
                0 => Precondition::Other,
                1 => Precondition::Own,
                _ => Precondition::None,
            },
        };
        Operation::Delete { by: self.user(), key, how }
    }

    fn single(&mut self, model: &Model) -> Operation {
        let by = self.user();
        let any = |_: Kind| true;
        match self.random.u8(0..100) {
            0..=15 => {
                let key = self.any_key();
                self.create(key)
            }
            34..=36 => Operation::DeleteCollection {
                by,
                kind: self.key(model, any).kind,
                place: self.place(),
                gold: self.random.bool(),
                dry_run: self.random.u8(0..8) == 0,
            },
            37 => Operation::DeleteNamespace { by, place: self.place(), dry_run: self.random.bool() },
            38..=39 => {
                let missing = (0..PLACES).find(|place| !model.namespaces.contains_key(place));
                Operation::CreateNamespace { by, place: missing.unwrap_or_else(|| self.place()) }
            }
            40..=43 => Operation::Select { by, place: self.place(), inside: self.random.bool() },
            44..=48 => Operation::Mark { by, key: self.key(model, any), gold: self.random.bool() },
            49..=54 => {
                let route = self.choose(&[Route::Spec, Route::Subresource]);
                let to = u8::from(self.random.u8(0..3) == 0);
                Operation::Scale { by, key: self.key(model, Kind::scales), to, route }
            }
            55..=56 => {
                let key = self.key(model, |kind| kind == Kind::CronJob);
                Operation::Suspend { by, key, suspend: self.random.u8(0..3) > 0 }
            }
            57..=62 => self.own(model),
            63..=66 => {
                let key = self.key(model, |kind| kind != Kind::Claim);
                let hold = !model.objects.get(&key).is_some_and(|object| object.hold) && self.random.bool();
                Operation::Hold { by, key, hold }
            }
            67..=69 => Operation::Empty { by, key: self.key(model, Kind::holds_data) },
            70..=71 => Operation::Fill { by, key: self.key(model, Kind::holds_data) },
            72..=74 => {
                let key = self.key(model, |kind| kind == Kind::Pod);
                Operation::Evict { by, key, dry_run: self.random.u8(0..8) == 0 }
            }
            75..=89 => self.approve(model),
            90..=91 => Operation::Present { by, target: self.target(model) },
            92..=93 => Operation::Withdraw { by, target: self.target(model), label: self.random.bool() },
            94..=96 => self.detach(model),
            97 => self.edit(model),
            98 if self.kills => Operation::Kill,
            // 16 to 33, and what is left.
            _ => {
                let key = self.key(model, any);
                self.delete(key)
            }
        }
    }

    fn target(&mut self, model: &Model) -> Target {
        if self.random.u8(0..4) == 0 {
            return Target::Namespace(self.place());
        }
        Target::Object(self.key(model, |_| true))
    }

    fn may_own(model: &Model) -> bool {
        model.rules.iter().all(|rule| rule.allowance.is_none())
    }

    fn own(&mut self, model: &Model) -> Operation {
        let by = self.user();
        let key = self.key(model, |_| true);
        let other = self.key(model, |_| true);
        let place = if self.random.u8(0..6) == 0 { other.place } else { key.place };
        let owner = Key { place, ..other };
        let real = model.objects.get(&owner).is_some_and(|one| !one.going) && self.random.u8(0..6) > 0;
        let controller = real && place == key.place && self.random.u8(0..3) == 0;
        let none = self.random.u8(0..4) == 0 || owner == key || !Self::may_own(model);
        Operation::Own { by, key, owner: (!none).then_some(Owner { key: owner, real, controller }) }
    }

    /// The action that somebody may want approved.
    fn action(&mut self, target: Target) -> Action {
        match target {
            Target::Namespace(_) => self.choose(&[Action::Delete, Action::Delete, Action::Unprotect, Action::Recreate]),
            Target::Object(key) => {
                let mut actions = vec![Action::Delete, Action::Delete, Action::Delete];
                actions.extend([Action::Unprotect, Action::Reparent, Action::Finalize]);
                actions.extend((key.kind == Kind::Pod).then_some(Action::Evict));
                actions.extend(key.kind.holds_data().then_some(Action::DiscardData));
                let scaled = key.kind.scales() || key.kind == Kind::CronJob;
                actions.extend(scaled.then_some(Action::ScaleToZero));
                self.choose(&actions)
            }
        }
    }

    /// Good, or good but for one thing.
    fn draft(&mut self, action: Action, target: Target, approver: User) -> (User, Draft) {
        let mut draft = Draft::of(action, approver);
        if approver == User::Bob && self.random.bool() {
            draft.team = Team::Owners;
        }
        let mut by = approver;
        draft.contents = matches!(target, Target::Namespace(_))
            && (action == Action::Recreate || action == Action::Delete && self.random.bool());
        match self.random.u8(0..40) {
            0 => draft.life = Life::Over,
            1 => draft.life = Life::Long,
            2 => draft.about = About::Nobody,
            3..=4 => draft.about = About::Former,
            5 => draft.other_cluster = true,
            6 => draft.other_epoch = true,
            7..=8 => by = self.user(),
            9 => draft.team = if draft.team == Team::Owners { Team::Approvers } else { Team::Owners },
            10 => draft.approver = self.choose(&[User::Agent, User::Ci]),
            11..=12 => draft.requester = Some(self.choose(&[User::Agent, User::Ci])),
            13 => draft.names = false,
            14..=15 => draft.presented = false,
            16 => draft.own_act = false,
            17 => draft.smuggled = true,
            18..=19 => draft.delete_only = action == Action::Delete,
            20..=22 => draft.break_glass = true,
            23 => (draft.break_glass, draft.reason) = (true, false),
            24 => (draft.presented, by) = (false, User::Agent),
            _ => {}
        }
        draft.beside = self.random.u8(0..6) > 0;
        (by, draft)
    }

    fn approve(&mut self, model: &Model) -> Operation {
        let target = self.target(model);
        let action = self.action(target);
        let approver = self.approver();
        let (by, draft) = self.draft(action, target, approver);
        Operation::Approve { by, target, draft }
    }

    /// Of what is there, or of what is to return.
    fn detach(&mut self, model: &Model) -> Operation {
        let forgotten: Vec<Target> =
            model.memory.keys().filter(|target| model.id(**target).is_none()).copied().collect();
        let approver = self.approver();
        if !forgotten.is_empty() && self.random.bool() {
            let target = self.choose(&forgotten);
            let mut draft = Draft::of(Action::Recreate, approver);
            draft.about = About::Former;
            return Operation::Detach { by: approver, target, draft };
        }
        let target = self.target(model);
        let action = self.action(target);
        let (by, mut draft) = self.draft(action, target, approver);
        if draft.life == Life::Over || model.id(target).is_none() || draft.about == About::Nobody {
            (draft.life, draft.about) = (Life::Good, About::Former);
        }
        (draft.smuggled, draft.contents) = (false, false);
        Operation::Detach { by, target, draft }
    }

    fn edit(&mut self, model: &Model) -> Operation {
        let rule = self.random.usize(0..model.rules.len());
        let kinds = [Kind::ConfigMap, Kind::Widget, Kind::Claim];
        let edit = match self.random.u8(0..3) {
            0 => Edit::Count(self.random.u8(1..3)),
            1 => Edit::Kind(self.choose(&kinds), self.random.bool()),
            _ => Edit::Action(self.choose(&[Action::ScaleToZero, Action::Finalize]), self.random.bool()),
        };
        let approvers = match self.random.u8(0..4) {
            0 => Vec::new(),
            1 => vec![User::Bob],
            _ => vec![User::Alice, User::Bob, User::Carol],
        };
        Operation::Edit { by: self.choose(&[User::Agent, User::Admin, User::Alice]), rule, edit, approvers }
    }

    /// Several steps that belong together, with others in between.
    fn plan(&mut self, model: &Model) {
        let key = self.key(model, |_| true);
        let target = Target::Object(key);
        let place = Target::Namespace(key.place);
        let by = self.choose(&[User::Agent, User::Ci, User::Agent, User::Alice]);
        let plain = Operation::Delete { by, key, how: Deleting::default() };
        let good = |action, who| Draft::of(action, who);
        let approves = |target, who, draft| Operation::Approve { by: who, target, draft };
        let other = Key { name: if key.name == "a" { "b" } else { "a" }, ..key };
        let steps = match self.random.u8(0..14) {
            // Approved, deleted and made anew.
            0 | 1 => {
                let mut steps = self.approvals(target, Action::Delete, model);
                steps.extend([plain, self.create(key)]);
                steps
            }
            // Approved for good.
            2 => {
                let mut steps = self.approvals(target, Action::Delete, model);
                for step in &mut steps {
                    if let Operation::Approve { draft, .. } = step {
                        draft.delete_only = true;
                    }
                }
                steps.extend([plain, self.create(key), self.create(key)]);
                steps
            }
            // Deleted by the approval of the one before.
            3 => {
                let mut steps = self.approvals(target, Action::Delete, model);
                let mut old = good(Action::Delete, User::Alice);
                old.about = About::Former;
                steps.extend([plain.clone(), self.create(key), approves(target, User::Alice, old), plain]);
                steps
            }
            // Something is hung on it after it was approved.
            4 if Self::may_own(model) => {
                let owner = Some(Owner { key, real: true, controller: false });
                let mut steps = vec![self.create(other)];
                steps.extend(self.approvals(target, Action::Delete, model));
                steps.extend([Operation::Own { by, key: other, owner }, plain]);
                steps
            }
            // Hung on it, then approved with it.
            5 | 6 if Self::may_own(model) => {
                let owner = Some(Owner { key, real: true, controller: self.random.u8(0..4) == 0 });
                let mut steps = vec![self.create(other), Operation::Own { by, key: other, owner }];
                steps.extend(self.approvals(target, Action::Delete, model));
                steps.push(plain);
                steps
            }
            // A throw-away owner.
            7 if Self::may_own(model) => {
                let away = Key { kind: Kind::Service, ..other };
                let owner = Some(Owner { key: away, real: true, controller: false });
                let throw = Operation::Delete { by, key: away, how: Deleting::default() };
                vec![self.create(away), Operation::Own { by, key, owner }, throw]
            }
            // An annotation nobody looks at, and the label afterwards.
            8 => {
                let mut planted = good(Action::Delete, User::Alice);
                planted.presented = false;
                vec![approves(target, by, planted), Operation::Present { by, target }, plain]
            }
            // Out of the namespace's rules, and back.
            9 => {
                let select = |inside| Operation::Select { by, place: key.place, inside };
                let mut steps = self.approvals(place, Action::Unprotect, model);
                steps.extend([select(false), plain, select(true), self.create(key)]);
                steps
            }
            // The contents of the namespace.
            10 => {
                let mut contents = good(Action::Delete, User::Alice);
                contents.contents = true;
                let whole = Operation::DeleteNamespace { by, place: key.place, dry_run: false };
                vec![approves(place, User::Alice, contents), plain, whole]
            }
            // The whole namespace, and its return.
            11 if self.random.u8(0..3) == 0 => {
                let mut steps = self.approvals(place, Action::Delete, model);
                steps.push(Operation::DeleteNamespace { by, place: key.place, dry_run: false });
                steps.push(Operation::CreateNamespace { by, place: key.place });
                steps
            }
            // Held, deleted, made anew while it is going.
            12 if key.kind != Kind::Claim => {
                let mut steps = vec![Operation::Hold { by, key, hold: true }];
                steps.extend(self.approvals(target, Action::Delete, model));
                steps.extend([plain.clone(), self.create(key), plain, Operation::Hold { by, key, hold: false }]);
                steps
            }
            // Everything of one kind, of which one is approved.
            _ => {
                let mut steps = self.approvals(target, Action::Delete, model);
                let (kind, place) = (key.kind, key.place);
                steps.push(Operation::DeleteCollection { by, kind, place, gold: false, dry_run: false });
                steps
            }
        };
        self.planned.extend(steps);
    }

    /// As many as it takes, or one fewer; by whom it takes, or another.
    fn approvals(&mut self, target: Target, action: Action, model: &Model) -> Vec<Operation> {
        let wanted = model.rules.iter().flat_map(|rule| rule.require.clone()).flat_map(|(team, count)| {
            let people = if team == Team::Owners { [User::Carol, User::Bob] } else { [User::Alice, User::Bob] };
            people.into_iter().take(count.into()).map(move |one| (one, team))
        });
        let mut steps = Vec::new();
        for (approver, team) in wanted.collect::<Vec<_>>() {
            let mut draft = Draft::of(action, approver);
            draft.team = team;
            steps.push(Operation::Approve { by: approver, target, draft });
        }
        if self.random.u8(0..5) == 0 {
            steps.pop();
        }
        steps
    }
}
