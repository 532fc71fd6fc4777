{{/* The labels of everything, without those by which pods are found. */}}
{{- define "tagout.others" -}}
{{- $own := dict "app.kubernetes.io/version" .Chart.AppVersion "app.kubernetes.io/managed-by" .Release.Service "app.kubernetes.io/part-of" "tagout" "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version) }}
{{- toYaml (merge $own (omit .Values.commonLabels "app.kubernetes.io/name" "app.kubernetes.io/instance")) }}
{{- end }}

{{- define "tagout.labels" -}}
{{ include "tagout.selector" . }}
{{ include "tagout.others" . }}
{{- end }}

{{/* What stands in the metadata of everything but the name. */}}
{{- define "tagout.metadata" -}}
labels:
  {{- include "tagout.labels" . | nindent 2 }}
{{- with .Values.commonAnnotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same for what runs once, before or after an upgrade: the Service must not find its pods. */}}
{{- define "tagout.hook" -}}
labels:
  app.kubernetes.io/name: {{ .name }}
  app.kubernetes.io/instance: {{ .root.Release.Name }}
  {{- include "tagout.others" .root | nindent 2 }}
annotations:
  {{- toYaml (merge (dict "helm.sh/hook" .hook "helm.sh/hook-weight" (.weight | quote | trimAll "\"") "helm.sh/hook-delete-policy" .delete) .root.Values.commonAnnotations) | nindent 2 }}
{{- end }}

{{- define "tagout.image" -}}
{{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Nobody, with no rights on its node, and nothing to write to. */}}
{{- define "tagout.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "tagout.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "tagout.selector" -}}
app.kubernetes.io/name: tagout
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What must be right before anything is rendered. */}}
{{- define "tagout.check" -}}
{{- if not (or .Values.approvers.groups .Values.approvers.users .Values.approvers.members) }}
{{- fail "\n\napprovers.groups, approvers.users or approvers.members must name who may approve, or nobody could. For example:\n  --set 'approvers.groups={senior-sre}'\nas `kubectl auth whoami` shows your people's groups." }}
{{- end }}
{{- range concat (default list .Values.approvers.groups) (default list .Values.approvers.users) }}
{{- if hasPrefix "system:" . }}
{{- fail (printf "\n\napprovers: %q is one of Kubernetes' own names, which hold machines. Name a group of people, or people." .) }}
{{- end }}
{{- end }}
{{- if and .Values.notifications.sinks (not .Values.notifications.clusterName) }}
{{- fail "\n\nnotifications.sinks: notifications.clusterName must say which cluster it is that notifies. For example:\n  --set notifications.clusterName=prod-eu" }}
{{- end }}
{{- if and (not .Values.notifications.sinks) (or .Values.notifications.clusterName .Values.notifications.secretName) }}
{{- fail "\n\nnotifications.clusterName and notifications.secretName do nothing by themselves: notifications.sinks must say who is notified." }}
{{- end }}
{{- if and .Values.clientCA.names (not .Values.clientCA.secretName) }}
{{- fail "\n\nclientCA.names does nothing by itself: clientCA.secretName must name the Secret with the authority of your API servers' client certificate. Without it, anybody is answered." }}
{{- end }}
{{- if and (eq .Values.certificates.source "Secret") (eq .Values.certificates.secretName "tagout-certificates") }}
{{- fail "\n\ncertificates.source=Secret: certificates.secretName must name your Secret with tls.crt, tls.key and ca.crt. tagout-certificates is the one that Tagout makes." }}
{{- end }}
{{- if and .Values.certificates.certManager.issuerRef (not .Values.certificates.certManager.issuerRef.name) }}
{{- fail "\n\ncertificates.certManager.issuerRef lacks a name: say which issuer shall sign, as {name, kind, group}." }}
{{- end }}
{{- range concat .Values.rules .Values.teams }}
{{- if not (and .name .spec) }}
{{- fail (printf "\n\nEach of rules and teams needs a name and a spec: %s" (toJson .)) }}
{{- end }}
{{- end }}
{{- if has .Release.Namespace (list "default" "kube-system" "kube-public" "kube-node-lease") }}
{{- fail (printf "\n\nTagout protects nothing in its own namespace, so that it can always be removed. Give it one of its own:\n  --namespace tagout-system --create-namespace   (not %s)" .Release.Namespace) }}
{{- end }}
{{- end }}

{{/* The kinds of the default rules. */}}
{{- define "tagout.kinds" -}}
- apiGroups: [apps]
  resources: [deployments, statefulsets, daemonsets]
- apiGroups: [batch]
  resources: [cronjobs]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
{{- end }}

{{/* What workloads are reached by, run as and read. */}}
{{- define "tagout.settings" -}}
- apiGroups: [""]
  resources: [secrets, configmaps, services, serviceaccounts]
- apiGroups: [networking.k8s.io]
  resources: [ingresses, networkpolicies]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
{{- end }}

{{/* What is deleted and made anew as daily work. Putting such an annotation on what is protected needs approval. */}}
{{- define "tagout.except" -}}
- annotation: helm.sh/hook
- annotation: argocd.argoproj.io/hook
# For what generators name anew each time, like kustomize's hashed ConfigMaps.
- annotation: tagout.dev/disposable
# Helm's own records of releases, of which it keeps ten.
- name: sh.helm.release.v1.*
# Kubernetes makes these anew: a namespace's certificates, the tokens of service accounts.
- name: kube-root-ca.crt
- annotation: kubernetes.io/service-account.name
{{- with .Values.protect.except }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "tagout.actions" -}}
[Delete, Recreate, ScaleToZero, Reparent, Finalize, DiscardData, Unprotect]
{{- end }}

{{- define "tagout.lockActions" -}}
[Delete, Recreate, ScaleToZero, Reparent, Finalize, DiscardData, Unprotect, Unlock]
{{- end }}

{{- define "tagout.approval" -}}
proof: {{ .Values.protect.proof }}
{{- if .Values.protect.requireVerification }}
requireVerification: true
{{- end }}
require:
- anyOf: [approvers]
  count: {{ .Values.protect.count }}
separateFromRequester: {{ .Values.protect.separateFromRequester }}
validFor: {{ .Values.protect.validFor }}
{{- with .Values.protect.breakGlass }}
breakGlass: {anyOf: {{ toJson . }}}
{{- end }}
{{- end }}

{{/* A pod of the same image that does one thing and ends. */}}
{{- define "tagout.once" -}}
{{- $values := .root.Values -}}
serviceAccountName: {{ .account }}
automountServiceAccountToken: {{ .token }}
restartPolicy: Never
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 0 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{- toYaml . | nindent 0 }}
{{- end }}
securityContext: {{- include "tagout.podSecurity" . | nindent 2 }}
containers:
- name: tagout
  image: {{ include "tagout.image" .root }}
  imagePullPolicy: {{ $values.image.pullPolicy }}
  args: {{- toYaml .args | nindent 2 }}
  resources: {{- toYaml $values.resources | nindent 4 }}
  securityContext: {{- include "tagout.containerSecurity" . | nindent 4 }}
  {{- with $values.extraEnv }}
  env: {{- toYaml . | nindent 2 }}
  {{- end }}
  terminationMessagePolicy: FallbackToLogsOnError
{{- end }}
