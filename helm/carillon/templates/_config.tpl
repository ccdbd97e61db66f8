{{/* The configuration file of a node. What differs from pod to pod (name, addresses) comes by the environment (_pod.tpl). */}}

{{/* Lines of TOML for a map of texts, flags, whole numbers and lists of texts. TOML's basic strings are JSON's. */}}
{{- define "carillon.toml" -}}
{{- range $key, $value := . }}
{{- if kindIs "string" $value }}
{{ $key }} = {{ $value | toJson }}
{{- else if kindIs "bool" $value }}
{{ $key }} = {{ $value }}
{{- else if kindIs "slice" $value }}
{{ $key }} = {{ $value | toJson }}
{{- else if not (kindIs "invalid" $value) }}
{{ $key }} = {{ int64 $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* carillon.toml. In: root, role, zone. */}}
{{- define "carillon.config" -}}
{{- $v := .root.Values -}}
{{- $own := index $v .role -}}
{{- $at := "/etc/carillon/secrets" -}}
# Written by helm; what pods have of their own comes by variables CARILLON__SECTION__KEY.
[node]
id = "auto"
data = "/var/lib/carillon"
roles = [{{ .role | quote }}]
capacity = {{ int $own.capacity }}
{{- include "carillon.toml" $v.settings.node }}

[cluster]
etcd = {{ include "carillon.etcdEndpoints" .root }}
prefix = {{ $v.etcd.prefix | toJson }}
lease_seconds = {{ int $v.etcd.leaseSeconds }}
drain_seconds = {{ int $v.drainSeconds }}
{{- with $v.etcd.user }}
etcd_user = {{ . | toJson }}
{{- end }}
{{- if $v.etcd.passwordSecret.name }}
etcd_password_file = "{{ $at }}/etcd-password"
{{- end }}
{{- if $v.etcd.caSecret.name }}
etcd_ca_file = "{{ $at }}/etcd-ca.pem"
{{- end }}
{{- if $v.etcd.clientSecret }}
etcd_cert_file = "{{ $at }}/etcd-client.pem"
etcd_key_file = "{{ $at }}/etcd-client.key"
{{- end }}
{{- if include "carillon.peerSecret" .root }}
ca_file = "{{ $at }}/peer-ca.pem"
cert_file = "{{ $at }}/peer.pem"
key_file = "{{ $at }}/peer.key"
{{- else }}
plain = true
{{- end }}

[store]
url = {{ include "carillon.storeUrl" .root | toJson }}
key_file = "{{ $at }}/secret.key"
{{- if $v.store.passwordSecret.name }}
password_file = "{{ $at }}/store-password"
{{- end }}
{{- if $v.store.caSecret.name }}
ca_file = "{{ $at }}/store-ca.pem"
{{- end }}
{{- include "carillon.toml" $v.settings.store }}
{{- if eq .role "proxy" }}

[sip]
{{- $advertise := default $own.sip.advertise .zone.sipAdvertise }}
{{- if $advertise }}
{{- $bind := ternary "[::]" "0.0.0.0" (eq $v.ipFamily "IPv6") }}
{{- $port := int $own.sip.port }}
{{- $shown := ternary $advertise (printf "%s:%d" $advertise $port) (regexMatch "[^:]:[0-9]+$" $advertise) }}
listen = [
{{- range $own.sip.transports }}
  { bind = "{{ . }}:{{ $bind }}:{{ $port }}", advertise = {{ $shown | toJson }} },
{{- end }}
]
{{- end }}
{{- include "carillon.toml" $v.settings.sip }}

[registrar]
{{- include "carillon.toml" $v.settings.registrar }}

[auth]
{{- include "carillon.toml" $v.settings.auth }}
{{- end }}
{{- if has .role (list "proxy" "as") }}

[limits]
{{- include "carillon.toml" $v.settings.limits }}
{{- end }}
{{- if eq .role "relay" }}

[media]
ports = {{ $own.mediaPorts | quote }}
{{- with default $own.advertise .zone.mediaAdvertise }}
advertise = {{ . | quote }}
{{- end }}
{{- include "carillon.toml" $v.settings.media }}
{{- end }}
{{- if eq .role "portal" }}

[api]
listen = "{{ ternary "[::]" "0.0.0.0" (eq $v.ipFamily "IPv6") }}:{{ int $own.apiPort }}"
{{- if $v.api.tls.existingSecret }}
cert_file = "{{ $at }}/api.pem"
key_file = "{{ $at }}/api.key"
{{- if $v.api.tls.clientCa.name }}
client_ca_file = "{{ $at }}/api-client-ca.pem"
{{- end }}
{{- end }}
{{- include "carillon.toml" $v.settings.api }}
{{- end }}
{{- with $v.telemetry }}
{{- if or .otlp .hep }}

[telemetry]
{{- if .otlp }}
otlp = {{ .otlp | toJson }}
sample = {{ printf "%.4f" (float64 .sample) }}
{{- end }}
{{- if .hep }}
hep = {{ .hep | toJson }}
hep_id = {{ int .hepId }}
{{- if .hepPasswordSecret.name }}
hep_password_file = "{{ $at }}/hep-password"
{{- end }}
{{- end }}
{{- end }}
{{- end }}

[log]
{{- include "carillon.toml" $v.settings.log }}
{{ end -}}
