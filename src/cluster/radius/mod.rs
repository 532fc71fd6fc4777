//! What goes when an object is deleted, found out live.
//!
//! Every kind that can be listed and deleted is listed, as far as the root reaches: metadata only, in pages, side by
//! side, and until the time is over. What could not be listed is named; the decision is up to [`guard`](crate::guard).

mod kinds;
mod lists;
mod reduce;
mod split;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use futures::{StreamExt, stream};
use kube::Client;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::kinds::{Kind, Kinds};
use self::lists::{Lister, Listing, NO_TIME};
use super::Cluster;
use super::facts::is_segment;
use crate::guard::{EVERYTHING, Found, Radius, Subject};

/// How many lists are read at a time.
const LISTS: usize = 16;

/// How many radii are found out at a time: a review can be forged, and each is a hundred requests.
const RADII: usize = 2;

/// Into more namespaces nobody looks one by one.
const MOST_NAMESPACES: usize = 20;

/// Reviews of one request arrive within milliseconds. Who comes later may ask about objects that came later.
const SHARED_FOR: Duration = Duration::from_millis(500);

type Finding = BoxFuture<'static, Arc<Radius>>;
type Run = Shared<Finding>;

/// Group, resource, namespace, name and UID. Not the UID alone: a forged review could name another object with it, and
/// what is found for that would be the answer to the real one.
type Identity = [String; 5];

/// The radii that are being found out.
pub(super) struct Radii {
    permits: Arc<Semaphore>,
    /// Since when, and by whom; who has no reader any more is gone.
    running: Mutex<HashMap<Identity, (Instant, WeakShared<Finding>)>>,
}

impl Cluster {
    /// Everything that goes with a root, as far as it can be found out within a time.
    pub async fn radius(&self, root: &Subject<'_>, budget: Duration) -> Radius {
        let budget = budget.min(Duration::from_hours(1));
        let deadline = Instant::now() + budget;
        let run = self.radii.join(&self.client, root, budget);
        let radius = timeout_at(deadline, run).await;
        self.radii.sweep();
        radius.map_or_else(|_| unknown(NO_TIME), Arc::unwrap_or_clone)
    }
}

/// The same for somebody who asks once.
pub async fn radius(client: &Client, root: &Subject<'_>, budget: Duration) -> Radius {
    let budget = budget.min(Duration::from_hours(1));
    let run = Radii::new().join(client, root, budget);
    let radius = timeout_at(Instant::now() + budget, run).await;
    radius.map_or_else(|_| unknown(NO_TIME), Arc::unwrap_or_clone)
}

impl Radii {
    pub(super) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(RADII)), running: Mutex::default() }
    }

    /// Finds out about a root, or waits for who already does.
    fn join(&self, client: &Client, root: &Subject, budget: Duration) -> Run {
        let root = Subject {
            group: root.group.to_string().into(),
            resource: root.resource.to_string().into(),
            namespace: root.namespace.to_string().into(),
            name: root.name.to_string().into(),
            uid: root.uid.to_string().into(),
            ..Subject::default()
        };
        let identity = [&root.group, &root.resource, &root.namespace, &root.name, &root.uid].map(ToString::to_string);
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let young = |since: Instant| now.duration_since(since) < SHARED_FOR;
        if let Some(run) = running.get(&identity).filter(|(since, _)| young(*since)).and_then(|(_, run)| run.upgrade())
        {
            return run;
        }
        // What is found has to be put together and said, too.
        let deadline = now + budget - (budget / 10).min(Duration::from_millis(300));
        let run = find_out(client.clone(), Arc::clone(&self.permits), root, deadline).boxed().shared();
        if let Some(weak) = run.downgrade() {
            running.insert(identity, (now, weak));
        }
        run
    }

    fn sweep(&self) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|_, (_, run)| run.upgrade().is_some());
    }
}

fn unknown(reason: &str) -> Radius {
    Radius { unlisted: [(EVERYTHING.to_owned(), reason.to_owned())].into(), ..Radius::default() }
}

async fn find_out(client: Client, permits: Arc<Semaphore>, root: Subject<'static>, deadline: Instant) -> Arc<Radius> {
    if !can_be_named(&root) {
        return Arc::new(unknown("its name cannot be one"));
    }
    let Ok(Ok(_permit)) = timeout_at(deadline, permits.acquire()).await else { return Arc::new(unknown(NO_TIME)) };
    let found = match timeout_at(deadline, Kinds::discover(&client)).await {
        Ok(Ok(kinds)) => Search::new(client, &root, kinds, deadline).run().await,
        Ok(Err(reason)) => return Arc::new(unknown(&reason)),
        Err(_) => return Arc::new(unknown(NO_TIME)),
    };
    // Of a hundred thousand objects it takes long enough to hold others up.
    let grown = tokio::task::spawn_blocking(move || Radius::grow(&root, found)).await;
    Arc::new(grown.unwrap_or_else(|_| unknown("it could not be worked out")))
}

fn is_definition(root: &Subject) -> bool {
    root.group == "apiextensions.k8s.io" && root.resource == "customresourcedefinitions"
}

/// Names from a review become parts of a URL, and a review can be forged.
fn can_be_named(root: &Subject) -> bool {
    (!root.is_namespace() || is_segment(&root.name))
        && (root.namespace.is_empty() || is_segment(&root.namespace))
        && (!is_definition(root) || root.name.contains('.'))
}

/// The lists that tell what goes with one root.
struct Search<'r> {
    root: &'r Subject<'r>,
    kinds: Kinds,
    lister: Lister,
    found: Found,
}

impl<'r> Search<'r> {
    fn new(client: Client, root: &'r Subject<'r>, kinds: Kinds, deadline: Instant) -> Self {
        // All Services of a namespace go with it: it does not matter what is behind them.
        let lister = Lister::new(client, deadline, !root.is_namespace());
        Self { root, kinds, lister, found: Found::default() }
    }

    async fn run(mut self) -> Found {
        if is_definition(self.root) {
            self.search_definition().await;
        } else if self.root.is_namespace() {
            self.search(|kind| kind.namespaced, &[Some(&self.root.name)]).await;
        } else if self.root.namespace.is_empty() {
            self.search(|_| true, &[None]).await;
        } else {
            self.search(|kind| kind.namespaced, &[Some(&self.root.namespace)]).await;
        }
        self.found
    }

    /// The instances first: most definitions that are deleted have none.
    async fn search_definition(&mut self) {
        let Some((plural, group)) = self.root.name.split_once('.') else { return };
        let Some(kind) = self.kinds.find(group, plural).cloned() else {
            let reason = "the API server does not serve it".to_owned();
            self.found.unlisted.insert(crate::api::kind_name(group, plural), reason);
            return;
        };
        let instances = self.lister.list(&kind, None).await;
        self.add(instances);
        let namespaces: BTreeSet<String> =
            self.found.objects.iter().map(|listed| listed.subject.namespace.to_string()).collect();
        let others = |other: &Kind| !other.is(group, plural) && (other.namespaced || !kind.namespaced);
        if self.found.objects.is_empty() {
            return;
        }
        if !kind.namespaced || namespaces.len() > MOST_NAMESPACES {
            return self.search(others, &[None]).await;
        }
        let places: Vec<Option<&str>> = namespaces.iter().map(|namespace| Some(namespace.as_str())).collect();
        self.search(others, &places).await;
    }

    async fn search(&mut self, of: impl Fn(&Kind) -> bool, places: &[Option<&str>]) {
        self.found.unlisted.append(&mut self.kinds.silent);
        let kinds: Vec<&Kind> = self.kinds.all.iter().filter(|kind| of(kind)).collect();
        let mut lists: Vec<BoxFuture<Listing>> = Vec::with_capacity(places.len() * kinds.len());
        for place in places {
            for kind in &kinds {
                lists.push(self.lister.list(kind, *place).boxed());
            }
        }
        let listings: Vec<Listing> = stream::iter(lists).buffer_unordered(LISTS).collect().await;
        for listing in listings {
            self.add(listing);
        }
        let volumes = self.kinds.find("", "persistentvolumes").filter(|volumes| !of(volumes));
        if let Some(volumes) = volumes.filter(|_| self.may_lose_a_claim()) {
            let volumes = self.lister.list(volumes, None).await;
            self.add(volumes);
        }
    }

    /// Whether it is worth to look for volumes. A claim that belongs to nobody goes with its namespace only.
    fn may_lose_a_claim(&self) -> bool {
        let claims = |group: &str, resource: &str| group.is_empty() && resource == "persistentvolumeclaims";
        claims(&self.root.group, &self.root.resource)
            || self.found.objects.iter().any(|listed| {
                claims(&listed.subject.group, &listed.subject.resource)
                    && (self.root.is_namespace() || !listed.owners.is_empty())
            })
    }

    fn add(&mut self, listing: Listing) {
        if let Some(reason) = listing.lacking {
            self.found.unlisted.entry(listing.kind).or_insert(reason);
        }
        self.found.objects.extend(listing.objects);
        for (service, pods) in listing.behind {
            self.found.behind.entry(service).or_default().extend(pods);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::Config;
    use rstest::rstest;
    use tokio::net::TcpListener;

    use super::*;
    use crate::cluster::RulesInForce;

    /// An API server that takes every connection and never answers.
    async fn silent() -> (TcpListener, Cluster) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let client = Client::try_from(Config::new(url.parse().unwrap())).unwrap();
        let cluster = Cluster::connect(client, Arc::new(RulesInForce::none()), String::new());
        (listener, cluster)
    }

    fn namespace(name: &str) -> Subject<'_> {
        Subject { resource: "namespaces".into(), name: name.into(), uid: "u".into(), ..Subject::default() }
    }

    #[tokio::test]
    async fn an_api_server_that_does_not_answer_holds_nothing_up_and_leaves_nothing_behind() {
        let (_listener, cluster) = silent().await;
        let began = Instant::now();
        // More than are found out about at a time.
        let roots = ["a", "b", "c", "d"].map(namespace);
        let radii = roots.each_ref().map(|root| cluster.radius(root, Duration::from_millis(300)));
        let radii = futures::future::join_all(radii).await;
        // Generous, for a machine that is busy with something else.
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        for radius in radii {
            assert_eq!(radius.unlisted, [("*".to_owned(), NO_TIME.to_owned())].into());
        }
        assert!(cluster.radii.running.lock().unwrap().is_empty());
        assert_eq!(cluster.radii.permits.available_permits(), RADII);
    }

    #[tokio::test]
    async fn reviews_of_one_request_share_what_is_found_out_and_a_forged_one_with_its_uid_does_not() {
        let (_listener, cluster) = silent().await;
        let join = |name| cluster.radii.join(&cluster.client, &namespace(name), Duration::from_secs(1));
        let (one, same, forged) = (join("a"), join("a"), join("b"));
        assert!(one.ptr_eq(&same));
        assert!(!one.ptr_eq(&forged));
        drop((one, same));
        cluster.radii.sweep();
        assert_eq!(cluster.radii.running.lock().unwrap().len(), 1, "what nobody waits for is not found out");
    }

    #[rstest]
    #[case("", "namespaces", "", "../secrets")]
    #[case("", "pods", "a?watch=1", "x")]
    #[case("apiextensions.k8s.io", "customresourcedefinitions", "", "x")]
    #[tokio::test]
    async fn a_forged_name_is_asked_for_nowhere(
        #[case] group: &'static str,
        #[case] resource: &'static str,
        #[case] namespace: &'static str,
        #[case] name: &'static str,
    ) {
        let (_listener, cluster) = silent().await;
        let root = Subject {
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
            ..Subject::default()
        };
        let radius = cluster.radius(&root, Duration::from_mins(1)).await;
        assert_eq!(radius.unlisted["*"], "its name cannot be one");
    }
}
