{{- define "tagout.labels" -}}
app.kubernetes.io/name: tagout
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
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
[Delete, ScaleToZero, Reparent, Finalize, DiscardData, Unprotect]
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
