{{- define "operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A name for objects that have no namespace, so that releases of one name in
two namespaces do not meet. */}}
{{- define "operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "operator.fullname" .) -}}
{{- end -}}

{{- define "operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "operator.labels" -}}
{{ include "operator.selectorLabels" . }}
{{ include "operator.commonLabels" . }}
{{- end -}}

{{/* The labels of objects that are not the operator's own pods and what stands
before them: the tests must not be taken for the operator. */}}
{{- define "operator.testLabels" -}}
app.kubernetes.io/name: {{ include "operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "operator.commonLabels" . }}
{{- end -}}

{{- define "operator.commonLabels" -}}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- $own := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" }}
{{- range $key, $value := .Values.commonLabels }}
{{- if not (has $key $own) }}
{{ $key }}: {{ $value | quote }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The name of an image: a dict of `image` (its values) and `root`. */}}
{{- define "operator.image" -}}
{{- $global := default dict .root.Values.global -}}
{{- $registry := default .image.registry $global.imageRegistry -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- .image.repository -}}
{{- if .image.digest -}}
@{{ .image.digest }}
{{- else -}}
:{{ default .root.Chart.AppVersion .image.tag }}
{{- end -}}
{{- end -}}

{{/* The Secrets for the operator's image, each once. Those of a parent chart may
be names alone. */}}
{{- define "operator.pullSecrets" -}}
{{- $global := default dict .Values.global -}}
{{- $names := list -}}
{{- range concat (default list $global.imagePullSecrets) .Values.image.pullSecrets .Values.imagePullSecrets -}}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ . }}
{{- end -}}
{{- end -}}

{{/* The names of a list of `{name: …}`, with commas between. */}}
{{- define "operator.names" -}}
{{- $names := list -}}
{{- range . -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- join "," $names -}}
{{- end -}}

{{/* Whether an object of prometheus-operator is rendered: a dict of `monitor`
(its values), `kind`, and `root`. */}}
{{- define "operator.monitors" -}}
{{- if .monitor.enabled -}}
{{- $there := .root.Capabilities.APIVersions.Has (printf "monitoring.coreos.com/v1/%s" .kind) -}}
{{- if or $there (eq .monitor.renderMode "alwaysRender") -}}
true
{{- else if eq .monitor.renderMode "failIfMissing" -}}
{{- fail (printf "this cluster knows no %s (monitoring.coreos.com/v1): install prometheus-operator first, or set renderMode to skipIfMissing" .kind) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The namespace for what is shown to a user, and for the test's question. */}}
{{- define "operator.sampleNamespace" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{- define "operator.metricsService" -}}
{{- printf "%s-metrics" (include "operator.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* The name of the Lease by which operators agree on a leader. */}}
{{- define "operator.electionLease" -}}
{{- if .Values.watchNamespaces }}namespace.{{ end }}operator.gatewayqueue.dev
{{- end -}}

{{/* What the operator does in each namespace that it watches. */}}
{{- define "operator.rules" -}}
# Read the GatewayQueues, and tell about them.
- apiGroups: [gatewayqueue.dev]
  resources: [gatewayqueues]
  verbs: [list, watch]
- apiGroups: [gatewayqueue.dev]
  resources: [gatewayqueues/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# See what keeps a queue's pods from running.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Make their children and revert changes to them. To apply an object that is missing
# needs `create` as well as `patch`. `delete` is needed to restore an owner reference:
# OwnerReferencesPermissionEnforcement (on by default on OpenShift) asks for it, since
# the garbage collector deletes what it owns.
- apiGroups: [""]
  resources: [serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# A GatewayQueue that is scaled down to one pod has no budget for disruptions any
# more, nor a NetworkPolicy when that is switched off.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# `get`, `patch` and `watch` are also what each queue is given for its own Lease,
# and nobody may give what they do not have. A queue that stands down, because
# another uses its token, has no Lease. Operators of the same namespaces agree on a
# leader by a Lease, too: get, create, patch.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}
