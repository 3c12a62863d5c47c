{{- define "gateway-queue-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "gateway-queue-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "gateway-queue-operator.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The name of cluster-scoped objects. It includes the namespace because releases in different
namespaces may have the same name. */}}
{{- define "gateway-queue-operator.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "gateway-queue-operator.fullname" .) -}}
{{- end -}}

{{- define "gateway-queue-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "gateway-queue-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "gateway-queue-operator.labels" -}}
{{ include "gateway-queue-operator.selectorLabels" . }}
{{ include "gateway-queue-operator.commonLabels" . }}
{{- end -}}

{{/* The labels of the objects of `helm test`. Their component differs from the operator's, so that
no selector takes the test's pod for an operator. */}}
{{- define "gateway-queue-operator.testLabels" -}}
app.kubernetes.io/name: {{ include "gateway-queue-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: test
{{ include "gateway-queue-operator.commonLabels" . }}
{{- end -}}

{{- define "gateway-queue-operator.commonLabels" -}}
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

{{- define "gateway-queue-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "gateway-queue-operator.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* The reference of an image. Takes a dict: `root`, and `key`, the name of the values, and
`repository`, its default. The images are not published, so without a registry there is no
default that could be pulled. */}}
{{- define "gateway-queue-operator.image" -}}
{{- $image := get .root.Values .key -}}
{{- $registry := default $image.registry (default dict .root.Values.global).imageRegistry -}}
{{- if not (or $registry $image.repository) -}}
{{- fail (printf "%s.repository is not set. Set global.imageRegistry to the registry of both images, or %s.repository to the full name of this one. `cargo xtask image --push REGISTRY` builds and pushes the images, which are not published." .key .key) -}}
{{- end -}}
{{- with $registry }}{{ . }}/{{ end -}}
{{- default .repository $image.repository -}}
{{- if $image.digest -}}
@{{ $image.digest }}
{{- else -}}
:{{ default .root.Chart.AppVersion $image.tag }}
{{- end -}}
{{- end -}}

{{- define "gateway-queue-operator.operatorImage" -}}
{{- include "gateway-queue-operator.image" (dict "root" . "key" "image" "repository" "gateway-queue-operator") -}}
{{- end -}}

{{- define "gateway-queue-operator.queueImage" -}}
{{- include "gateway-queue-operator.image" (dict "root" . "key" "queueImage" "repository" "gateway-queue") -}}
{{- end -}}

{{/* The names of Secrets, each once, separated by commas. Takes a list of names and
`{name: …}`. */}}
{{- define "gateway-queue-operator.secretNames" -}}
{{- $names := list -}}
{{- range . -}}
{{- $names = append $names (kindIs "string" . | ternary . (get (kindIs "map" . | ternary . dict) "name")) -}}
{{- end -}}
{{- join "," (uniq $names) -}}
{{- end -}}

{{/* The `imagePullSecrets` of the operator's pods. */}}
{{- define "gateway-queue-operator.pullSecrets" -}}
{{- $global := default list (default dict .Values.global).imagePullSecrets -}}
{{- with include "gateway-queue-operator.secretNames" (concat $global .Values.imagePullSecrets) -}}
{{- range splitList "," . }}
- name: {{ . }}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails if `global` has an unknown key. A parent chart may use other keys for other subcharts,
which is why the schema cannot refuse them. */}}
{{- define "gateway-queue-operator.requireKnownGlobals" -}}
{{- if .Chart.IsRoot -}}
{{- $known := list "imageRegistry" "imagePullSecrets" -}}
{{- range $key, $_ := .Values.global -}}
{{- if not (has $key $known) -}}
{{- fail (printf "global.%s is not a value of this chart. Accepted are global.%s." $key (join " and global." $known)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* Fails if the cluster lacks a kind of prometheus-operator. Takes a dict: `root`, and `kind`
and `key`, the name of the values. Helm knows the kinds of a cluster only if it is connected to
one, which has Deployments. */}}
{{- define "gateway-queue-operator.requireKind" -}}
{{- $known := .root.Capabilities.APIVersions -}}
{{- if and ($known.Has "apps/v1/Deployment") (not ($known.Has (printf "monitoring.coreos.com/v1/%s" .kind))) -}}
{{- fail (printf "%s.enabled is true, but the cluster has no kind %s (monitoring.coreos.com/v1). Install prometheus-operator first, or set %s.enabled to false." .key .kind .key) -}}
{{- end -}}
{{- end -}}

{{/* The namespace of the GatewayQueue that `helm test` creates as a dry run. */}}
{{- define "gateway-queue-operator.testNamespace" -}}
{{- if or (not .Values.watchNamespaces) (has .Release.Namespace .Values.watchNamespaces) -}}
{{- .Release.Namespace -}}
{{- else -}}
{{- first .Values.watchNamespaces -}}
{{- end -}}
{{- end -}}

{{- define "gateway-queue-operator.metricsService" -}}
{{- printf "%s-metrics" (include "gateway-queue-operator.fullname" . | trunc 55 | trimSuffix "-") -}}
{{- end -}}

{{/* The name of the Lease with which operators elect a leader. */}}
{{- define "gateway-queue-operator.electionLease" -}}
{{- if .Values.watchNamespaces }}namespace.{{ end }}operator.gatewayqueue.dev
{{- end -}}

{{/* The operator's permissions in each namespace that it serves. */}}
{{- define "gateway-queue-operator.rules" -}}
# Read GatewayQueues; report their state in the status and as Events.
- apiGroups: [gatewayqueue.dev]
  resources: [gatewayqueues]
  verbs: [list, watch]
- apiGroups: [gatewayqueue.dev]
  resources: [gatewayqueues/status]
  verbs: [patch]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
# Report why a queue's pods do not run.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch]
# Create the children and revert changes to them. Applying a missing object needs `create`
# as well as `patch`. Restoring an owner reference needs `delete` with the admission plugin
# OwnerReferencesPermissionEnforcement (enabled by default on OpenShift), because the
# garbage collector deletes an object together with its owner. It also deletes what was
# created for a new GatewayQueue before the name of a child turned out to be taken.
- apiGroups: [""]
  resources: [serviceaccounts, services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [rbac.authorization.k8s.io]
  resources: [roles, rolebindings]
  verbs: [get, list, watch, create, patch, delete]
# `delete` also removes the PodDisruptionBudget of a GatewayQueue that is scaled down to one
# pod, and the NetworkPolicy of one that disables it.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
# `get`, `patch` and `watch` are also in the Role of each queue, and RBAC lets nobody grant
# permissions that they lack. `delete` removes the Lease of a queue whose token another queue
# uses. The operators' own election needs `get`, `create` and `patch`.
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  verbs: [get, list, watch, create, patch, delete]
{{- end -}}
