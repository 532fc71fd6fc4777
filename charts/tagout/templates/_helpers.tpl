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
