{{- /*
The configuration of CNCF distribution (https://distribution.github.io/distribution/about/configuration/). It has no cache of
blob descriptors: after a garbage collection it would promise blobs that are gone.

Distribution's htpasswd lets in whoever it knows, and to everything. So there are two processes on one storage: the one that
the controllers write to, and one that only reads, for the proxies. Takes a dict of root and isReader.
*/ -}}
{{- define "cache-registry.registryConfiguration" -}}
version: 0.1
log:
  level: info
  formatter: {{ .root.Values.log.format }}
  accesslog:
    disabled: true
storage:
  {{- include "cache-registry.storageDriver" .root | nindent 2 }}
  delete:
    enabled: {{ not .isReader }}
  {{- if .isReader }}
  maintenance:
    readonly:
      enabled: true
    # Uploads that were given up are removed by who takes them.
    uploadpurging:
      enabled: false
  {{- end }}
{{- if .root.Values.registry.authentication.enabled }}
auth:
  htpasswd:
    realm: cache-registry
    path: /etc/cache-registry-credentials/htpasswd
{{- end }}
http:
  addr: :{{ include (ternary "cache-registry.readerPort" "cache-registry.registryPort" .isReader) .root }}
  headers:
    X-Content-Type-Options: [nosniff]
  {{- if and .isReader .root.Values.registry.metrics.enabled }}
  debug:
    addr: :{{ include "cache-registry.registryDebugPort" .root }}
    prometheus:
      enabled: true
  {{- end }}
validation:
  manifests:
    indexes:
      # Indexes are kept as they are upstream, also where not all of their images are.
      platforms: none
{{- end }}

{{- /* The files of both, by their names. */ -}}
{{- define "cache-registry.registryConfigurations" -}}
config.yml: |
  {{- include "cache-registry.registryConfiguration" (dict "root" . "isReader" false) | nindent 2 }}
reader.yml: |
  {{- include "cache-registry.registryConfiguration" (dict "root" . "isReader" true) | nindent 2 }}
{{- end }}
