{{- /*
The configuration of CNCF distribution (https://distribution.github.io/distribution/about/configuration/). It has no cache of
blob descriptors: after a garbage collection it would promise blobs that are gone.
*/ -}}
{{- define "cache-registry.registryConfiguration" -}}
version: 0.1
log:
  level: info
  formatter: {{ .Values.log.format }}
  accesslog:
    disabled: true
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :{{ include "cache-registry.registryPort" . }}
  headers:
    X-Content-Type-Options: [nosniff]
  {{- if .Values.registry.metrics.enabled }}
  debug:
    addr: :{{ include "cache-registry.registryDebugPort" . }}
    prometheus:
      enabled: true
  {{- end }}
validation:
  manifests:
    indexes:
      # Indexes are kept as they are upstream, also where not all of their images are.
      platforms: none
{{- end }}
