//! The ways to destroy what production depends on, and where each ends. Pure data: `docs/routes.md` is made of it.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// Tagout refuses it until a person has approved it.
    Stopped,
    /// It is let happen, is noticed, and is put right where it can be.
    Detected,
    /// Tagout does not stop it.
    OutOfReach,
}

pub struct Route {
    pub name: &'static str,
    /// What the agent does.
    pub how: &'static str,
    pub ends: Ends,
    /// Of what is stopped: by which action. Otherwise the reason why it is not.
    pub why: &'static str,
}

const fn stopped(name: &'static str, how: &'static str, why: &'static str) -> Route {
    Route { name, how, ends: Ends::Stopped, why }
}

const fn detected(name: &'static str, how: &'static str, why: &'static str) -> Route {
    Route { name, how, ends: Ends::Detected, why }
}

const fn out_of_reach(name: &'static str, how: &'static str, why: &'static str) -> Route {
    Route { name, how, ends: Ends::OutOfReach, why }
}

pub const ROUTES: &[Route] = &[
    stopped("delete", "Deletes a workload, Secret, ConfigMap or Service with `kubectl delete`.", "Delete."),
    stopped(
        "delete-in-every-cascade",
        "Deletes it in the background, in the foreground, or so that what it owns is orphaned.",
        "Delete: what becomes of the rest does not change what is asked.",
    ),
    stopped(
        "delete-with-force",
        "Deletes with `--force`, `--now` or no grace period.",
        "Delete: force is no approval.",
    ),
    stopped(
        "delete-all-of-a-kind",
        "Deletes with `--all` or a label: one after the other.",
        "Delete, of each object by itself.",
    ),
    stopped(
        "delete-collection",
        "Deletes a whole collection with one request to the API.",
        "Delete, of each object by itself; the first that is refused ends it.",
    ),
    stopped(
        "replace-with-force",
        "Replaces an object with `kubectl replace --force`, which deletes it first.",
        "Delete.",
    ),
    stopped(
        "apply-with-prune",
        "Applies one small file with `kubectl apply --prune`, which deletes everything else.",
        "Delete.",
    ),
    stopped(
        "claim-deleted",
        "Deletes a PersistentVolumeClaim that a pod uses, so that it goes when the pod does.",
        "Delete.",
    ),
    stopped(
        "volume-deleted",
        "Deletes the PersistentVolume behind a protected claim.",
        "Delete: a volume is as protected as the claim that it is bound to.",
    ),
    stopped(
        "evict",
        "Evicts a pod, or deletes it, where a rule names pods and the action Evict.",
        "Evict. The default rules leave evictions alone, because drains must keep working and controllers make the pods anew.",
    ),
    stopped(
        "namespace-deleted",
        "Deletes a production namespace, and everything in it with that.",
        "Delete: what is in it counts, and is named in the refusal.",
    ),
    stopped(
        "namespace-with-one-protected-object",
        "Deletes a namespace that no rule names, or empties its finalizers, while one labelled object is in it.",
        "Delete: the object goes with its namespace.",
    ),
    stopped(
        "namespace-label-taken-off",
        "Takes the label off a namespace, changes it, or writes the namespace anew without it.",
        "Unprotect.",
    ),
    stopped(
        "namespace-label-through-status",
        "Does the same through the subresource `status`.",
        "Unprotect, by any subresource.",
    ),
    stopped(
        "namespace-label-through-finalize",
        "Does the same through the subresource `finalize`.",
        "Unprotect, by any subresource.",
    ),
    stopped(
        "namespace-finalizers-emptied",
        "Empties `spec.finalizers` of a namespace, so that its contents would be left behind when it goes.",
        "Finalize.",
    ),
    stopped(
        "label-taken-off",
        "Takes the label `tagout.dev/protect` off an object, alone or together with something worse.",
        "Unprotect.",
    ),
    stopped(
        "label-taken-off-through-status",
        "Takes that label off through the subresource `status`.",
        "Unprotect, by any subresource.",
    ),
    stopped(
        "exception-put-on",
        "Puts an annotation on an object that the rule makes an exception for, like `helm.sh/hook`.",
        "Unprotect.",
    ),
    stopped(
        "condition-made-false",
        "Changes an object so that a condition of its rule does not hold any more.",
        "Unprotect.",
    ),
    stopped(
        "rule-weakened-or-deleted",
        "Sets a rule to Audit, points it elsewhere, takes actions out of it, or deletes it.",
        "Loosen.",
    ),
    stopped("approver-added", "Adds itself to the team that approves, and approves.", "Loosen."),
    stopped("scale-to-zero-in-the-spec", "Sets `spec.replicas` to 0 with a patch.", "ScaleToZero."),
    stopped(
        "scale-to-zero-through-scale",
        "Runs `kubectl scale --replicas=0`, on one or on all.",
        "ScaleToZero: the workload is looked up, because a Scale has no labels.",
    ),
    stopped(
        "scale-to-zero-in-steps",
        "Scales down to 1, which is allowed, and then to 0.",
        "ScaleToZero, at the last step.",
    ),
    stopped("scale-to-zero-by-apply", "Applies or replaces the manifest with 0 replicas.", "ScaleToZero."),
    stopped(
        "horizontal-pod-autoscaler",
        "Makes a HorizontalPodAutoscaler with a minimum of 0, or asks in its name.",
        "ScaleToZero, whoever asks.",
    ),
    stopped("cron-job-suspended", "Suspends a CronJob.", "ScaleToZero."),
    stopped(
        "daemon-set-placed-nowhere",
        "Gives a DaemonSet a node selector or affinity that no node fits.",
        "ScaleToZero.",
    ),
    stopped(
        "deployment-placed-nowhere",
        "Gives a Deployment such a node selector or affinity together with the strategy Recreate.",
        "ScaleToZero.",
    ),
    stopped(
        "stateful-set-numbered-anew",
        "Numbers the pods of a StatefulSet anew, so that all are replaced by others with empty claims.",
        "ScaleToZero.",
    ),
    stopped(
        "replica-set-of-a-paused-deployment",
        "Pauses a Deployment and deletes its ReplicaSet, which is then not made anew.",
        "ScaleToZero of the Deployment.",
    ),
    stopped(
        "replica-set-of-a-stuck-rollout",
        "Starts a rollout that cannot end and deletes the old ReplicaSet, in which all running pods are.",
        "ScaleToZero of the Deployment.",
    ),
    stopped(
        "owner-that-never-was",
        "Gives an object an owner that does not exist, so that the garbage collector deletes it.",
        "Reparent.",
    ),
    stopped("owner-with-another-uid", "Names an owner that exists, with another UID.", "Reparent."),
    stopped(
        "owner-in-another-namespace",
        "Names an owner that lives in another namespace, which to the garbage collector is none.",
        "Reparent.",
    ),
    stopped("owner-that-is-going", "Names an owner that is being deleted.", "Reparent."),
    stopped(
        "dead-owner-left-behind",
        "Adds two owners, lets one of them go, and takes the other off.",
        "Reparent: no owner that is left lives.",
    ),
    stopped(
        "throw-away-owner-in-the-background",
        "Makes an unprotected object the owner of a protected one, and deletes it.",
        "Delete, when the garbage collector comes: the owner was not approved to take it along.",
    ),
    stopped(
        "throw-away-owner-in-the-foreground",
        "Does the same with `--cascade=foreground`.",
        "Delete, when the garbage collector comes; the owner waits.",
    ),
    stopped(
        "throw-away-owner-that-orphans",
        "Does the same with `--cascade=orphan`, and then deletes what was orphaned.",
        "Delete: it is as protected as before.",
    ),
    stopped(
        "volume-with-a-bogus-owner",
        "Gives a bound PersistentVolume an owner that does not exist.",
        "Delete, when the garbage collector comes. The change itself is not asked about.",
    ),
    stopped(
        "namespace-with-a-bogus-owner",
        "Gives a namespace an owner that does not exist.",
        "Reparent; and Delete when the garbage collector comes, also where only one object in it is protected.",
    ),
    stopped(
        "claim-that-looks-ephemeral",
        "Makes a claim look like that of a pod's ephemeral volume, which goes with its pod.",
        "Unprotect.",
    ),
    stopped(
        "secret-with-a-controller",
        "Gives a Secret, ConfigMap or Service a controller, which it would then follow.",
        "Unprotect.",
    ),
    stopped(
        "volume-policy-changed",
        "Changes the reclaim policy of a PersistentVolume from Retain, so that the disk goes with the claim.",
        "DiscardData.",
    ),
    stopped("volume-claim-cleared", "Clears `spec.claimRef` of a PersistentVolume, or the UID in it.", "DiscardData."),
    stopped("volume-claim-changed", "Points `spec.claimRef` at another claim.", "DiscardData."),
    stopped(
        "volume-phase-forced",
        "Writes the phase Released or another into the status of a bound volume, and deletes it.",
        "DiscardData, and Delete.",
    ),
    stopped(
        "claims-go-with-their-set",
        "Sets a StatefulSet's claim retention policy to Delete.",
        "DiscardData: Kubernetes acts on it at once.",
    ),
    stopped("secret-emptied", "Empties the data of a Secret, or replaces every key by another.", "DiscardData."),
    stopped("config-map-emptied", "Empties the data of a ConfigMap, or replaces every key by another.", "DiscardData."),
    stopped("finalizer-taken-off", "Takes a finalizer off an object that is not being deleted.", "Finalize."),
    stopped(
        "deletion-policy-of-a-custom-kind",
        "Sets `spec.deletionPolicy` of a snapshot or an operator's object to Delete, where a rule names the kind.",
        "DiscardData.",
    ),
    stopped(
        "definition-deleted",
        "Deletes a CustomResourceDefinition, and with it every object of the kind.",
        "Delete, as long as there are objects of the kind.",
    ),
    stopped("definition-unserved", "Stops a custom kind that a rule names from being served.", "Unprotect."),
    stopped(
        "definition-unserved-then-deleted",
        "Stops a kind that no rule names from being served, so that it looks empty, and deletes its definition.",
        "Delete: what cannot be counted is not taken for empty.",
    ),
    stopped(
        "definition-schema-emptied",
        "Empties the schema of a kind that a rule names, so that objects forget what they say when they are written next.",
        "Unprotect.",
    ),
    stopped(
        "definition-converted-by-others",
        "Gives the definition of a kind that a rule names a conversion webhook, which may rewrite labels.",
        "Unprotect.",
    ),
    stopped(
        "definition-names-changed-in-status",
        "Changes the accepted names in the status of a definition, and deletes the definition while its objects are not found.",
        "Unprotect; of a kind that no rule names the rule for all definitions keeps it, because what cannot be counted is not taken for empty.",
    ),
    stopped(
        "api-served-by-others",
        "Points the APIService of a protected kind's group, or of Tagout's own, at another server.",
        "Loosen.",
    ),
    stopped(
        "as-the-garbage-collector",
        "Deletes with `--as system:serviceaccount:kube-system:generic-garbage-collector`.",
        "Delete: what counts is whether the owner is gone and was let go, not who asks.",
    ),
    stopped(
        "as-the-namespace-controller",
        "Deletes in the name of the namespace controller.",
        "Delete: what counts is whether the namespace is going.",
    ),
    stopped(
        "as-other-controllers",
        "Deletes in the name of other controllers, nodes, the API server or Tagout itself.",
        "Delete: no name is exempt.",
    ),
    stopped(
        "token-of-a-controller",
        "Makes a token for the service account of a controller, and deletes with it.",
        "Delete: no name is exempt.",
    ),
    stopped(
        "deletion-record-forged",
        "Writes a DeletionRecord by which the deletion of an owner was approved.",
        "Loosen: only Tagout writes records.",
    ),
    stopped(
        "webhook-configuration-of-a-rule-edited",
        "Edits or deletes the webhook configuration of a rule.",
        "A policy keeps it, which the API server evaluates by itself. Where that is switched off, Tagout writes it anew within about a second.",
    ),
    stopped(
        "webhook-configuration-of-tagout-deleted",
        "Deletes the configuration `tagout`, by which Tagout is asked at all.",
        "A policy keeps it. `kubectl tagout unlock` opens it for one person, by approval.",
    ),
    stopped(
        "tagout-stopped-or-replaced",
        "Deletes or scales away Tagout's own Deployment, Service, Secrets, roles or namespace, leaves it no room, or has another pod, image, EndpointSlice or token answer or act in its place.",
        "A policy keeps what runs in Tagout's namespace, and new tokens of its account. While Tagout is away, what its rules name is refused.",
    ),
    detected(
        "policies-of-tagout-deleted",
        "Deletes the policies that keep Tagout as it is, and their bindings.",
        "No request asks anybody about policies. While a replica lives they are put back within seconds, and everybody is told. The API server's own files can keep them.",
    ),
    stopped(
        "placed-nowhere-then-recreated",
        "Gives a Deployment a node selector that no node fits, by which no pod goes yet, and then sets its strategy to Recreate.",
        "ScaleToZero: the strategy is asked about as the place is.",
    ),
    stopped(
        "placed-nowhere-all-unavailable",
        "Gives a Deployment such a node selector together with `maxUnavailable: 100%`.",
        "ScaleToZero.",
    ),
    stopped(
        "stateful-set-placed-nowhere",
        "Gives a StatefulSet of one replica a node selector that no node fits.",
        "ScaleToZero.",
    ),
    stopped(
        "recreated-in-disguise",
        "Deletes what a rule lets go unasked, and makes it anew with other labels and annotations.",
        "Recreate: what counts is the name, and what stood under it.",
    ),
    stopped(
        "recreated-with-a-borrowed-controller",
        "Gives a workload a living controller, deletes it, and makes it anew with that.",
        "Recreate: workloads return by their controllers only where the rule says `owned: Follow`, and there lending one is Unprotect.",
    ),
    stopped(
        "recreated-while-it-goes",
        "Keeps it going by a finalizer, and asks for the new one while it does.",
        "Recreate: one that is going counts as gone.",
    ),
    stopped(
        "recreated-behind-a-slow-webhook",
        "Has the creation reviewed while the object stands, held up by a slow webhook, and deletes the object meanwhile.",
        "Recreate: of what stands a creation is answered with `already exists`, as it would be a moment later.",
    ),
    stopped(
        "namespace-made-anew-elsewhere",
        "Deletes the namespace too, once nothing protected is in it, and makes it anew without the label.",
        "Recreate: it has to be one that the rules select which remember what was in it.",
    ),
    stopped(
        "memory-closed",
        "Writes into the status of Tagout's definitions that they are not served.",
        "Nobody changes whether Tagout's kinds are served.",
    ),
    stopped(
        "storm-behind-a-throw-away-owner",
        "Hangs many objects on an owner of its own, and deletes that.",
        "Delete, where a rule has a ceiling: what such an owner leaves behind is counted one by one.",
    ),
    stopped(
        "review-that-cannot-be-read",
        "Gives an object thousands of labels, or asks under a name of a thousand letters, so that Tagout cannot read the review.",
        "Whatever is asked: what cannot be read is refused, as is all that cannot be decided while Tagout is there.",
    ),
    stopped(
        "memory-wiped",
        "Deletes or empties the record of what was destroyed, or the ledger of what was let pass.",
        "Only Tagout writes and removes these.",
    ),
    stopped(
        "storm-of-little-deletions",
        "Deletes many objects one by one, each so little that nobody is asked, by several users.",
        "Delete, where a rule has a ceiling: it counts what is tolerated and what is approved alike.",
    ),
    out_of_reach(
        "recreated-under-another-name",
        "Deletes what a rule lets go unasked, and makes the same under another name.",
        "Under another name it is another object. Whether the old one may go is decided when it goes.",
    ),
    out_of_reach(
        "recreated-while-tagout-is-away",
        "Waits until Tagout does not answer, or keeps it from answering, and makes it anew.",
        "Nobody may be kept from restoring because the guard is down. The deletion was the loss, and that is refused while Tagout is away.",
    ),
    out_of_reach(
        "allowance-under-many-names",
        "Impersonates one user after the other, each with an allowance of its own.",
        "Who may impersonate has as many names as there are. Give the rule an allowance or a ceiling `per: Rule` or `per: Namespace`.",
    ),
    out_of_reach(
        "replica-set-of-a-stuck-rollout-scaled",
        "Starts a rollout that cannot end and scales the old ReplicaSet to 0.",
        "The Deployment controller scales ReplicaSets itself in every rollout, and Tagout must not be in its way. What starts such a rollout is a change of the template, which is daily work.",
    ),
    stopped(
        "replica-set-released-then-deleted",
        "Pauses a Deployment, changes the labels of its ReplicaSet so that the Deployment lets it go, and deletes it.",
        "ScaleToZero: a ReplicaSet that nobody would make anew stands for a Deployment.",
    ),
    stopped(
        "replica-set-given-away-then-deleted",
        "Pauses a Deployment, gives its ReplicaSet another controller, and deletes it.",
        "ScaleToZero: nothing built in makes it anew.",
    ),
    out_of_reach(
        "image-set-to-nonsense",
        "Sets the image, command, resources, scheduler or node name of a workload to what cannot run.",
        "A change of the pod template is what every rollout is; nobody can tell beforehand that it will not run. A rolling update keeps the old pods.",
    ),
    out_of_reach("cron-job-never-due", "Gives a CronJob a schedule that never comes.", "Any schedule may be meant."),
    out_of_reach(
        "values-overwritten",
        "Overwrites each value of a Secret or ConfigMap, or empties it in several steps.",
        "That is what rotation looks like. Keep a copy elsewhere.",
    ),
    out_of_reach(
        "selector-of-a-service-emptied",
        "Empties the selector of a Service, or changes its type.",
        "It stops traffic and destroys nothing, and is undone by the next apply.",
    ),
    out_of_reach(
        "rights-emptied",
        "Empties the rules of a Role or the subjects of a RoleBinding.",
        "What is in an object is not judged, only whether it goes. It is undone by the next apply.",
    ),
    out_of_reach(
        "network-policy-that-denies-all",
        "Makes a NetworkPolicy that lets no traffic through.",
        "A new object destroys nothing. It stops traffic, and is undone by deleting it.",
    ),
    out_of_reach(
        "quota-then-pods-deleted",
        "Makes a quota, a limit or an admission policy under which no pod can start, and deletes the pods.",
        "Pods come and go all day, and what lets them start is not only in the hands of Kubernetes. The workload stays and comes back when the obstacle goes.",
    ),
    out_of_reach(
        "nodes-tainted-or-deleted",
        "Taints, cordons or deletes nodes.",
        "Nodes are the business of who runs the cluster, and are replaced as daily work.",
    ),
    out_of_reach(
        "pods-pushed-out",
        "Makes pods of a high priority that push others out.",
        "It is the scheduler that decides, and refusing it stops scheduling.",
    ),
    out_of_reach(
        "exec-or-sql",
        "Runs a command in a container, or drops tables over the database's own port.",
        "The API server does not see what is done there. Keep `pods/exec` and the database's passwords from agents.",
    ),
    out_of_reach(
        "impersonating-an-approver",
        "Approves in the name of an approver with `--as`, or has a token or certificate made for one.",
        "With the proof Identity the API server says that it is this person. With Signature or HardwareKey it is stopped.",
    ),
    out_of_reach(
        "impersonating-tagout",
        "Writes a DeletionRecord with `--as` as Tagout's own service account.",
        "With the proof Identity a record is worth what impersonation is kept to. What is signed is checked wherever a record is used.",
    ),
    out_of_reach(
        "guard-removed-with-no-replica",
        "Waits until no replica of Tagout runs, deletes the bindings of its policies and then its configuration.",
        "This is the emergency exit: who runs the cluster must get out when Tagout is broken. The API server's own files close it.",
    ),
    out_of_reach(
        "write-that-is-mutated",
        "Makes a webhook or policy that changes what others write.",
        "What they change is asked about like any write; what an approver writes unsigned can be changed in the same moment. Sign approvals.",
    ),
    out_of_reach(
        "aggregated-api",
        "Deletes objects that a server behind an APIService keeps.",
        "The API server asks no webhook about them.",
    ),
    out_of_reach(
        "etcd",
        "Writes to etcd, restores a backup, or stops the API server.",
        "There is no request that anybody could refuse.",
    ),
    out_of_reach(
        "cloud-api",
        "Deletes disks, machines or load balancers in the cloud.",
        "Kubernetes is not asked. Guard the cloud account.",
    ),
    out_of_reach(
        "kinds-that-no-rule-names",
        "Deletes what no rule names: bare pods and Jobs, objects of custom kinds, other namespaces.",
        "A rule protects what it names. `kubectl tagout status` shows what that is.",
    ),
    out_of_reach(
        "definition-changed-of-a-kind-that-no-rule-names",
        "Empties the schema of a custom kind that no rule names, or gives it a conversion webhook.",
        "By default only the deletion of definitions is guarded. Name the kind in a rule to guard the rest.",
    ),
];
