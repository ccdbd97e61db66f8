{{/* What a schema cannot say: values that must be there, and those that do not go together. All mistakes are listed at once. */}}
{{- define "carillon.checks" -}}
{{- $v := .Values -}}
{{- $wrong := list -}}
{{- $roles := include "carillon.roles" . -}}
{{- if not $roles -}}
{{- $wrong = append $wrong "proxy.enabled, relay.enabled, as.enabled, portal.enabled: nothing is left; enable one" -}}
{{- end -}}
{{- if and (not $v.etcd.trial.enabled) (not $v.etcd.endpoints) -}}
{{- $wrong = append $wrong "etcd.endpoints: missing; name the client addresses of your etcd, such as [\"https://etcd-0.example:2379\"]" -}}
{{- end -}}
{{- if and $v.etcd.trial.enabled $v.etcd.endpoints -}}
{{- $wrong = append $wrong "etcd.endpoints: there is etcd.trial.enabled, too; take one away" -}}
{{- end -}}
{{- if and $v.etcd.user (not $v.etcd.passwordSecret.name) (not $v.etcd.clientSecret) -}}
{{- $wrong = append $wrong "etcd.passwordSecret.name: missing for etcd.user; name the Secret that has the password" -}}
{{- end -}}
{{- if and (not $v.store.trial.enabled) (not $v.store.url) -}}
{{- $wrong = append $wrong "store.url: missing; name your database, such as \"postgresql://carillon@db.example/carillon?sslmode=require\"" -}}
{{- end -}}
{{- if and $v.store.trial.enabled $v.store.url -}}
{{- $wrong = append $wrong "store.url: there is store.trial.enabled, too; take one away" -}}
{{- end -}}
{{- if regexMatch "^postgres(ql)?://[^/@]*:[^/@]*@" $v.store.url -}}
{{- $wrong = append $wrong "store.url: has a password; put it into a Secret and name that as store.passwordSecret.name" -}}
{{- end -}}
{{- if and $v.store.trial.enabled (not $v.store.passwordSecret.name) -}}
{{- $wrong = append $wrong "store.passwordSecret.name: missing; the trial database gets its password from that Secret" -}}
{{- end -}}
{{- if not $v.store.keySecret.name -}}
{{- $wrong = append $wrong "store.keySecret.name: missing; name the Secret with the 32 octets that all nodes seal passwords with (README.md: Secrets)" -}}
{{- end -}}
{{- if and $v.peers.plain (or $v.peers.secret $v.peers.certManager.enabled) -}}
{{- $wrong = append $wrong "peers.plain: there are certificates, too; take one away" -}}
{{- end -}}
{{- if not (or $v.peers.plain $v.peers.secret $v.peers.certManager.enabled) -}}
{{- $wrong = append $wrong "peers.secret: missing; name a Secret with ca.crt, tls.crt and tls.key, or set peers.certManager.enabled, or for a trial peers.plain" -}}
{{- end -}}
{{- if and $v.peers.certManager.enabled (not $v.peers.certManager.issuer.name) -}}
{{- $wrong = append $wrong "peers.certManager.issuer.name: missing; name an issuer with an authority of the cluster's own" -}}
{{- end -}}
{{- if and $v.api.tls.clientCa.name (not $v.api.tls.existingSecret) -}}
{{- $wrong = append $wrong "api.tls.existingSecret: missing for api.tls.clientCa.name, as certificates are shown by TLS; name a Secret with tls.crt and tls.key" -}}
{{- end -}}
{{- if and $v.telemetry.hepPasswordSecret.name (not $v.telemetry.hep) -}}
{{- $wrong = append $wrong "telemetry.hepPasswordSecret.name: is for telemetry.hep, which names nobody" -}}
{{- end -}}
{{- $onHost := or (and $v.proxy.enabled $v.proxy.hostNetwork) (and $v.relay.enabled $v.relay.hostNetwork) -}}
{{- if and $v.networkPolicy.enabled $onHost (not $v.networkPolicy.hostCidrs) -}}
{{- $wrong = append $wrong "networkPolicy.hostCidrs: missing; name the networks of the hosts, from which proxies and relays on the hosts' network come, such as [\"10.0.0.0/24\"]" -}}
{{- end -}}
{{- if and $v.serviceMonitor.enabled $onHost (eq $v.operate.hostListen "loopback") -}}
{{- $wrong = append $wrong "operate.hostListen: loopback, and Prometheus would not reach proxies and relays; set host, and close their operate ports for others in the hosts' firewall" -}}
{{- end -}}
{{- range $role := list "proxy" "relay" -}}
{{- $own := index $v $role -}}
{{- if and $own.enabled $own.persistence.enabled (eq $own.kind "DaemonSet") -}}
{{- $wrong = append $wrong (printf "%s.persistence.enabled: a DaemonSet has no volume claims; set %s.kind to StatefulSet" $role $role) -}}
{{- end -}}
{{- end -}}
{{- range $role := list "as" "portal" -}}
{{- $own := index $v $role -}}
{{- with $own.autoscaling -}}
{{- if and .enabled (lt (int .maxReplicas) (int .minReplicas)) -}}
{{- $wrong = append $wrong (printf "%s.autoscaling.maxReplicas: %d is less than minReplicas, %d" $role (int .maxReplicas) (int .minReplicas)) -}}
{{- end -}}
{{- if and .enabled (not .callsPerNode) (not .cpuPercent) -}}
{{- $wrong = append $wrong (printf "%s.autoscaling.callsPerNode: neither this nor cpuPercent says when to scale; set one" $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $onHost $v.proxy.enabled $v.relay.enabled $v.proxy.hostNetwork $v.relay.hostNetwork -}}
{{- $ports := list (int $v.proxy.peerPort) (int $v.proxy.operatePort) (int $v.relay.peerPort) (int $v.relay.operatePort) (int $v.proxy.sip.port) -}}
{{- if ne (len ($ports | uniq)) 5 -}}
{{- $wrong = append $wrong "relay.peerPort, relay.operatePort: proxies and relays may share a host; give each port of proxy and relay a number of its own" -}}
{{- end -}}
{{- end -}}
{{- $range := splitList "-" $v.relay.mediaPorts -}}
{{- if lt (int (index $range 1)) (add (int (index $range 0)) 3) -}}
{{- $wrong = append $wrong (printf "relay.mediaPorts: %s holds no call; the second port must be the larger one, by three at least" $v.relay.mediaPorts) -}}
{{- end -}}
{{- range $name := list "peerPort" "operatePort" -}}
{{- $port := int (index $v.relay $name) -}}
{{- if and $v.relay.enabled (ge $port (int (index $range 0))) (le $port (int (index $range 1))) -}}
{{- $wrong = append $wrong (printf "relay.%s: %d lies in relay.mediaPorts; take another" $name $port) -}}
{{- end -}}
{{- end -}}
{{- if and $v.portal.ingress.enabled (not $v.portal.ingress.hosts) -}}
{{- $wrong = append $wrong "portal.ingress.hosts: missing; name the hosts that the Ingress serves" -}}
{{- end -}}
{{- if and $v.portal.httpRoute.enabled (not $v.portal.httpRoute.parentRefs) -}}
{{- $wrong = append $wrong "portal.httpRoute.parentRefs: missing; name the Gateway that the route belongs to" -}}
{{- end -}}
{{- $names := list -}}
{{- range $v.zones -}}{{- $names = append $names .name -}}{{- end -}}
{{- if ne (len $names) (len ($names | uniq)) -}}
{{- $wrong = append $wrong "zones: two have the same name" -}}
{{- end -}}
{{- if and $v.zones $v.zoneFromPodLabel -}}
{{- $wrong = append $wrong "zoneFromPodLabel: zones says already what the zones are; take one away" -}}
{{- end -}}
{{- range $label := keys $v.podLabels -}}
{{- if hasPrefix "app.kubernetes.io/" $label -}}
{{- $wrong = append $wrong (printf "podLabels: %s is the chart's own" $label) -}}
{{- end -}}
{{- end -}}
{{- if $wrong -}}
{{- printf "\n\n%d wrong in the values:\n  %s\n" (len $wrong) (join "\n  " $wrong) | fail -}}
{{- end -}}
{{- end -}}
