{{/* Names, labels and small answers that other templates ask for. Elsewhere: the configuration (_config.tpl), pods (_pod.tpl),
what is wrong with the values (_checks.tpl). */}}

{{- define "carillon.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* 40 octets, so that a role, a zone and what Kubernetes adds fit behind it. */}}
{{- define "carillon.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "carillon.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "carillon.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "carillon.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "carillon.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "carillon.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository $tag -}}
{{- end -}}
{{- end -}}

{{/* Labels that never change; selectors are made of them. */}}
{{- define "carillon.selector" -}}
app.kubernetes.io/name: {{ include "carillon.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Nodes of the cluster, of whatever role: trial databases lack the last label. */}}
{{- define "carillon.nodes" -}}
{{ include "carillon.selector" . }}
app.kubernetes.io/part-of: carillon-cluster
{{- end -}}

{{- define "carillon.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{ include "carillon.selector" . }}
{{- end -}}

{{/* The roles that are enabled, as words with blanks between. */}}
{{- define "carillon.roles" -}}
{{- $roles := list -}}
{{- range $role := list "proxy" "relay" "as" "portal" -}}
{{- if (index $.Values $role).enabled -}}{{- $roles = append $roles $role -}}{{- end -}}
{{- end -}}
{{- join " " $roles -}}
{{- end -}}

{{/* What is made once for each zone of values, or once where there are none: as JSON, {"zones": [{"name": "", …}]}. */}}
{{- define "carillon.zones" -}}
{{- $zones := list -}}
{{- range .Values.zones -}}
{{- $zones = append $zones (dict "name" .name "nodeSelector" (default (dict "topology.kubernetes.io/zone" .name) .nodeSelector) "sipAdvertise" (default "" .sipAdvertise) "mediaAdvertise" (default "" .mediaAdvertise)) -}}
{{- end -}}
{{- if not $zones -}}
{{- $zones = list (dict "name" "" "nodeSelector" dict "sipAdvertise" "" "mediaAdvertise" "") -}}
{{- end -}}
{{- dict "zones" $zones | toJson -}}
{{- end -}}

{{/* Name of the workload of a role in a zone. In: root, role, zone. */}}
{{- define "carillon.workload" -}}
{{- if .zone.name -}}
{{- printf "%s-%s-%s" (include "carillon.fullname" .root) .role (.zone.name | lower | replace "." "-" | replace "_" "-") | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (include "carillon.fullname" .root) .role -}}
{{- end -}}
{{- end -}}

{{/* DaemonSet, StatefulSet or Deployment. In: root, role. */}}
{{- define "carillon.kind" -}}
{{- if has .role (list "proxy" "relay") -}}{{- (index .root.Values .role).kind -}}{{- else -}}Deployment{{- end -}}
{{- end -}}

{{/* "true" where the pods of a role are on the hosts' network. In: root, role. */}}
{{- define "carillon.onHost" -}}
{{- if and (has .role (list "proxy" "relay")) (index .root.Values .role).hostNetwork -}}true{{- end -}}
{{- end -}}

{{/* "true" where the operate port of a role is on loopback alone. In: root, role. */}}
{{- define "carillon.operateLocal" -}}
{{- if and (include "carillon.onHost" .) (eq .root.Values.operate.hostListen "loopback") -}}true{{- end -}}
{{- end -}}

{{/* An address from the environment with a port behind it. In: root, name, port. */}}
{{- define "carillon.address" -}}
{{- if eq .root.Values.ipFamily "IPv6" -}}
{{- printf "[$(%s)]:%d" .name (int .port) -}}
{{- else -}}
{{- printf "$(%s):%d" .name (int .port) -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the nodes' certificates; empty: plain. */}}
{{- define "carillon.peerSecret" -}}
{{- if .Values.peers.plain -}}
{{- else if .Values.peers.certManager.enabled -}}
{{- default (printf "%s-peers" (include "carillon.fullname" .)) .Values.peers.secret -}}
{{- else -}}
{{- .Values.peers.secret -}}
{{- end -}}
{{- end -}}

{{/* Seconds until a pod is killed: a drain at its full length, and what hanging up and writing the rest may take. */}}
{{- define "carillon.graceSeconds" -}}
{{- add (int .Values.drainSeconds) 30 -}}
{{- end -}}

{{- define "carillon.etcdEndpoints" -}}
{{- if .Values.etcd.trial.enabled -}}
{{- list (printf "http://%s-trial-etcd:2379" (include "carillon.fullname" .)) | toJson -}}
{{- else -}}
{{- .Values.etcd.endpoints | toJson -}}
{{- end -}}
{{- end -}}

{{- define "carillon.storeUrl" -}}
{{- if .Values.store.trial.enabled -}}
{{- printf "postgresql://carillon@%s-trial-postgresql/carillon" (include "carillon.fullname" .) -}}
{{- else -}}
{{- .Values.store.url -}}
{{- end -}}
{{- end -}}

{{/* The ports that addresses name, or the usual one. In: text, usual. As JSON: {"ports": [2379]}. */}}
{{- define "carillon.ports" -}}
{{- $ports := list -}}
{{- range regexFindAll ":[0-9]+(/|,|$|\\?)" .text -1 -}}
{{- $ports = append $ports (regexFind "[0-9]+" . | int) -}}
{{- end -}}
{{- dict "ports" (default (list .usual) ($ports | uniq)) | toJson -}}
{{- end -}}
