{{/* The pod of a node, the same for every kind of workload. In: root, role, zone. */}}

{{- define "carillon.securityContext" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* One file of a Secret in the projected volume. In: name, key, path. */}}
{{- define "carillon.secretFile" -}}
- secret:
    name: {{ .name | quote }}
    items:
      - {key: {{ .key | quote }}, path: {{ .path | quote }}}
{{- end -}}

{{- define "carillon.probe" -}}
{{- if include "carillon.operateLocal" . }}
host: 127.0.0.1
{{- end }}
path: {{ .path }}
port: operate
scheme: HTTP
{{- end -}}

{{/* The port that is the same on the host has to be said, where the pod has the host's network. */}}
{{- define "carillon.port" -}}
- name: {{ .name }}
  containerPort: {{ int .port }}
  {{- if .onHost }}
  hostPort: {{ int .port }}
  {{- end }}
  protocol: {{ .protocol }}
{{- end -}}

{{- define "carillon.pod" -}}
{{- $v := .root.Values -}}
{{- $own := index $v .role -}}
{{- $onHost := include "carillon.onHost" . -}}
{{- $full := include "carillon.fullname" .root -}}
{{- $address := ternary "HOST_IP" "POD_IP" (eq $onHost "true") -}}
metadata:
  labels:
    {{- include "carillon.nodes" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
    {{- with .zone.name }}
    carillon/zone: {{ . | quote }}
    {{- end }}
    {{- with $v.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "carillon.config" . | sha256sum }}
    {{- with $v.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "carillon.serviceAccount" .root }}
  automountServiceAccountToken: false
  # Variables of services would look like ours.
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ include "carillon.graceSeconds" .root }}
  {{- if $onHost }}
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- end }}
  {{- with $v.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . | quote }}
    {{- end }}
  {{- end }}
  {{- with $v.priorityClassName }}
  priorityClassName: {{ . | quote }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  {{- with merge (dict) $own.nodeSelector .zone.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $own.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if ne (include "carillon.kind" .) "DaemonSet" }}
  affinity:
    podAntiAffinity:
      {{- if $onHost }}
      requiredDuringSchedulingIgnoredDuringExecution:
        - topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "carillon.selector" .root | nindent 14 }}
              app.kubernetes.io/component: {{ .role }}
      {{- else }}
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "carillon.selector" .root | nindent 16 }}
                app.kubernetes.io/component: {{ .role }}
      {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: {{ $v.zoneSpread }}
      labelSelector:
        matchLabels:
          {{- include "carillon.selector" .root | nindent 10 }}
          app.kubernetes.io/component: {{ .role }}
  {{- end }}
  containers:
    - name: carillon
      image: {{ include "carillon.image" .root | quote }}
      imagePullPolicy: {{ $v.image.pullPolicy }}
      args: [serve, --config, /etc/carillon/config/carillon.toml]
      env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        {{- if $onHost }}
        - name: HOST_IP
          valueFrom: {fieldRef: {fieldPath: status.hostIP}}
        {{- end }}
        - name: CARILLON__NODE__NAME
          value: $(POD_NAME)
        {{- if .zone.name }}
        - name: CARILLON__NODE__ZONE
          value: {{ .zone.name | quote }}
        {{- else if $v.zoneFromPodLabel }}
        - name: CARILLON__NODE__ZONE
          valueFrom: {fieldRef: {fieldPath: "metadata.labels['topology.kubernetes.io/zone']"}}
        {{- end }}
        - name: CARILLON__CLUSTER__LISTEN
          value: {{ include "carillon.address" (dict "root" .root "name" $address "port" $own.peerPort) | quote }}
        - name: CARILLON__OPERATE__LISTEN
          {{- if include "carillon.operateLocal" . }}
          value: "127.0.0.1:{{ int $own.operatePort }}"
          {{- else }}
          value: {{ include "carillon.address" (dict "root" .root "name" $address "port" $own.operatePort) | quote }}
          {{- end }}
        {{- if and (eq .role "proxy") (not (default $own.sip.advertise .zone.sipAdvertise)) }}
        {{- $listen := list }}
        {{- range $own.sip.transports }}
        {{- $listen = append $listen (printf "%s:%s" . (include "carillon.address" (dict "root" $.root "name" $address "port" $own.sip.port))) }}
        {{- end }}
        - name: CARILLON__SIP__LISTEN
          value: {{ join "," $listen | quote }}
        {{- end }}
        {{- if eq .role "relay" }}
        - name: CARILLON__MEDIA__ADDRESS
          value: $({{ $address }})
        {{- end }}
        {{- range $name, $value := $own.env }}
        - name: {{ $name }}
          value: {{ $value | quote }}
        {{- end }}
      ports:
        {{- if eq .role "proxy" }}
        {{- range $own.sip.transports }}
        {{- include "carillon.port" (dict "name" (printf "sip-%s" .) "port" $own.sip.port "protocol" (upper .) "onHost" $onHost) | nindent 8 }}
        {{- end }}
        {{- end }}
        {{- if eq .role "portal" }}
        {{- include "carillon.port" (dict "name" "api" "port" $own.apiPort "protocol" "TCP") | nindent 8 }}
        {{- end }}
        {{- include "carillon.port" (dict "name" "peer" "port" $own.peerPort "protocol" "TCP" "onHost" $onHost) | nindent 8 }}
        {{- include "carillon.port" (dict "name" "operate" "port" $own.operatePort "protocol" "TCP" "onHost" $onHost) | nindent 8 }}
      startupProbe:
        httpGet:
          {{- include "carillon.probe" (dict "root" .root "role" .role "path" "/healthz") | trim | nindent 10 }}
        periodSeconds: 2
        failureThreshold: 90
      livenessProbe:
        httpGet:
          {{- include "carillon.probe" (dict "root" .root "role" .role "path" "/healthz") | trim | nindent 10 }}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet:
          {{- include "carillon.probe" (dict "root" .root "role" .role "path" "/readyz") | trim | nindent 10 }}
        periodSeconds: 3
        timeoutSeconds: 2
        failureThreshold: 2
      lifecycle:
        preStop:
          # Moves calls, legs and media away before the signal comes. SIGTERM does the same where this fails.
          exec:
            command: [/usr/local/bin/carillon, ctl, --data, /var/lib/carillon, drain]
      resources:
        {{- toYaml $own.resources | nindent 8 }}
      securityContext:
        {{- include "carillon.securityContext" .root | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/carillon/config, readOnly: true}
        - {name: secrets, mountPath: /etc/carillon/secrets, readOnly: true}
        - {name: data, mountPath: /var/lib/carillon}
        {{- if and (eq .role "portal") $own.files.existingClaim }}
        - {name: files, mountPath: /var/lib/carillon/files}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "carillon.workload" . }}
    - name: secrets
      projected:
        # Readable by the group of the pod, which is its user's own.
        defaultMode: 0440
        sources:
          {{- include "carillon.secretFile" (dict "name" $v.store.keySecret.name "key" $v.store.keySecret.key "path" "secret.key") | nindent 10 }}
          {{- with $v.store.passwordSecret }}
          {{- if .name }}
          {{- include "carillon.secretFile" (dict "name" .name "key" .key "path" "store-password") | nindent 10 }}
          {{- end }}
          {{- end }}
          {{- with $v.store.caSecret }}
          {{- if .name }}
          {{- include "carillon.secretFile" (dict "name" .name "key" .key "path" "store-ca.pem") | nindent 10 }}
          {{- end }}
          {{- end }}
          {{- with $v.etcd.passwordSecret }}
          {{- if .name }}
          {{- include "carillon.secretFile" (dict "name" .name "key" .key "path" "etcd-password") | nindent 10 }}
          {{- end }}
          {{- end }}
          {{- with $v.etcd.caSecret }}
          {{- if .name }}
          {{- include "carillon.secretFile" (dict "name" .name "key" .key "path" "etcd-ca.pem") | nindent 10 }}
          {{- end }}
          {{- end }}
          {{- with $v.etcd.clientSecret }}
          {{- include "carillon.secretFile" (dict "name" . "key" "tls.crt" "path" "etcd-client.pem") | nindent 10 }}
          {{- include "carillon.secretFile" (dict "name" . "key" "tls.key" "path" "etcd-client.key") | nindent 10 }}
          {{- end }}
          {{- with include "carillon.peerSecret" .root }}
          {{- include "carillon.secretFile" (dict "name" . "key" "ca.crt" "path" "peer-ca.pem") | nindent 10 }}
          {{- include "carillon.secretFile" (dict "name" . "key" "tls.crt" "path" "peer.pem") | nindent 10 }}
          {{- include "carillon.secretFile" (dict "name" . "key" "tls.key" "path" "peer.key") | nindent 10 }}
          {{- end }}
          {{- if and (eq .role "portal") $v.api.tls.existingSecret }}
          {{- include "carillon.secretFile" (dict "name" $v.api.tls.existingSecret "key" "tls.crt" "path" "api.pem") | nindent 10 }}
          {{- include "carillon.secretFile" (dict "name" $v.api.tls.existingSecret "key" "tls.key" "path" "api.key") | nindent 10 }}
          {{- with $v.api.tls.clientCa }}
          {{- if .name }}
          {{- include "carillon.secretFile" (dict "name" .name "key" .key "path" "api-client-ca.pem") | nindent 10 }}
          {{- end }}
          {{- end }}
          {{- end }}
          {{- with $v.telemetry }}
          {{- if and .hep .hepPasswordSecret.name }}
          {{- include "carillon.secretFile" (dict "name" .hepPasswordSecret.name "key" .hepPasswordSecret.key "path" "hep-password") | nindent 10 }}
          {{- end }}
          {{- end }}
    {{- if not (and (eq (include "carillon.kind" .) "StatefulSet") $own.persistence.enabled) }}
    - name: data
      emptyDir:
        sizeLimit: {{ $own.emptyDirSize }}
    {{- end }}
    {{- if eq .role "portal" }}
    {{- with $own.files.existingClaim }}
    - name: files
      persistentVolumeClaim:
        claimName: {{ . | quote }}
    {{- end }}
    {{- end }}
{{- end -}}
