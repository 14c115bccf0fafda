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
  {{- include "cache-registry.registryEnvironment" .root | nindent 2 }}
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
  {{- with include "cache-registry.storageMounts" . | trim }}
  {{- . | nindent 2 }}
  {{- end }}
  {{- if include "cache-registry.registryCredentialsSecret" .root }}
  - name: {{ .name }}-credentials
    mountPath: /etc/cache-registry-credentials
    readOnly: true
  {{- end }}
{{- end }}

{{- /* Of each process of distribution's: of both of the registry, and of the one that collects garbage. */ -}}
{{- define "cache-registry.registryEnvironment" -}}
# Without, distribution 3 sends traces to an address of its own choice.
- name: OTEL_TRACES_EXPORTER
  value: none
{{- with include "cache-registry.uploadSecret" . }}
{{ . }}
{{- end }}
{{- with include "cache-registry.storageEnvironment" . }}
{{ . }}
{{- end }}
{{- with .Values.registry.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /*
With several replicas, an upload that one has begun is taken up by another, which has to know its signature. The controllers
make the secret; where the registry lets everybody in there is nobody to keep from forging one.
*/ -}}
{{- define "cache-registry.uploadSecret" -}}
{{- if gt (int .Values.registry.replicas) 1 -}}
- name: REGISTRY_HTTP_SECRET
  {{- with include "cache-registry.registryCredentialsSecret" . }}
  valueFrom: { secretKeyRef: { name: {{ . }}, key: uploads } }
  {{- else }}
  value: everybody-may-write
  {{- end }}
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
