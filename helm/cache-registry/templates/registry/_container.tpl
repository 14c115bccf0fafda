{{- /* One of the registry's two processes: a dict of root, name, file, port, portNumber, resources, htpasswd and isReader. */ -}}
{{- define "cache-registry.registryContainer" -}}
name: {{ .name }}
image: {{ include "cache-registry.reference" .root.Values.registry.image }}
imagePullPolicy: {{ .root.Values.registry.image.pullPolicy }}
args: [serve, /etc/cache-registry/{{ .file }}]
securityContext:
  {{- toYaml .root.Values.registry.securityContext | nindent 2 }}
resources:
  {{- toYaml .resources | nindent 2 }}
env:
  # Without, distribution 3 sends traces to an address of its own choice.
  - name: OTEL_TRACES_EXPORTER
    value: none
  {{- with .root.Values.registry.env }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
ports:
  - { name: {{ .port }}, containerPort: {{ .portNumber }} }
  {{- if and .isReader .root.Values.registry.metrics.enabled }}
  - { name: debug, containerPort: {{ include "cache-registry.registryDebugPort" .root }} }
  {{- end }}
# The one path that asks for no credentials.
livenessProbe:
  httpGet: { path: /, port: {{ .port }} }
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: { path: /, port: {{ .port }} }
  periodSeconds: 5
  timeoutSeconds: 5
volumeMounts:
  - name: configuration
    mountPath: /etc/cache-registry
    readOnly: true
  - name: images
    mountPath: /var/lib/registry
    {{- if .isReader }}
    readOnly: true
    {{- end }}
  {{- if include "cache-registry.registryCredentialsSecret" .root }}
  - name: {{ .name }}-credentials
    mountPath: /etc/cache-registry-credentials
    readOnly: true
  {{- end }}
{{- end }}

{{- /* The volume with the images. */ -}}
{{- define "cache-registry.imagesVolume" -}}
{{- $persistence := include "cache-registry.persistence" . | fromYaml -}}
name: images
{{- if $persistence.enabled }}
persistentVolumeClaim:
  claimName: {{ $persistence.existingClaim | default (printf "%s-registry" (include "cache-registry.fullname" .)) }}
{{- else }}
emptyDir: {}
{{- end }}
{{- end }}

{{- /* The file of those whom it lets in. */ -}}
{{- define "cache-registry.registryCredentialsVolume" -}}
{{- with include "cache-registry.registryCredentialsSecret" .root -}}
- name: {{ $.name }}-credentials
  secret:
    secretName: {{ . }}
    defaultMode: 0440
    items:
      - { key: {{ $.htpasswd }}, path: htpasswd }
{{- end }}
{{- end }}
