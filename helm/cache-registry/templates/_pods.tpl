{{- /* What the pods of several roles have in common. Each takes a dict of root, role and values (the role's). */ -}}

{{- /* metadata of a pod; annotations is a further key. */ -}}
{{- define "cache-registry.podMetadata" -}}
labels:
  {{- /* No version: a new one of the chart alone is no reason to stop a pod. */}}
  {{- include "cache-registry.selector" . | nindent 2 }}
  {{- with .root.Values.commonLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
  {{- with .values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (deepCopy (.values.podAnnotations | default dict)) (.annotations | default dict) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Who the pod is and where it runs. Only a role that speaks to the API server gets a token. */ -}}
{{- define "cache-registry.podPlace" -}}
serviceAccountName: {{ include "cache-registry.fullname" .root }}-{{ .role }}
automountServiceAccountToken: {{ has .role (list "webhook" "controllers" "gc") }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- toYaml .values.podSecurityContext | nindent 2 }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* Where several replicas run unless their values say: apart, which a cluster of one node cannot grant. */ -}}
{{- define "cache-registry.apart" -}}
{{- if not .values.affinity -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      - weight: 100
        podAffinityTerm:
          topologyKey: kubernetes.io/hostname
          labelSelector:
            matchLabels:
              {{- include "cache-registry.selector" . | nindent 14 }}
{{- end }}
{{- end }}

{{- /* A container of our own image; without arguments and mounts. */ -}}
{{- define "cache-registry.container" -}}
name: {{ .role }}
image: {{ include "cache-registry.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  {{- toYaml .values.securityContext | nindent 2 }}
resources:
  {{- toYaml .values.resources | nindent 2 }}
{{- end }}

{{- /* Probes on the admin port, which is given. */ -}}
{{- define "cache-registry.probes" -}}
livenessProbe:
  httpGet: { path: /live, port: {{ . }} }
  periodSeconds: 20
  timeoutSeconds: 5
readinessProbe:
  httpGet: { path: /ready, port: {{ . }} }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{- /* Arguments that every role of ours has: a dict of root and adminPort. */ -}}
{{- define "cache-registry.arguments" -}}
- --node-address={{ include "cache-registry.nodeAddress" .root }}
- --admin-listen={{ .root.Values.listenAddress }}:{{ .adminPort }}
- --log-format={{ .root.Values.log.format }}
{{- end }}

{{- /* What $(POD_NAMESPACE) and $(POD_NAME) in arguments stand for. */ -}}
{{- define "cache-registry.podNames" -}}
- name: POD_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- end }}

{{- /* Environment of every role of ours. */ -}}
{{- define "cache-registry.environment" -}}
- name: RUST_LOG
  value: {{ .root.Values.log.filter | quote }}
{{- /* An upgrade with --reuse-values from before there were traces has no such values. */ -}}
{{- if ((.root.Values.telemetry).otlp).endpoint }}
{{ include "cache-registry.traces" . }}
{{- end }}
{{- with .values.env }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Where a role sends its traces, and who it is there. */ -}}
{{- define "cache-registry.traces" -}}
- name: HOST_IP
  valueFrom: { fieldRef: { fieldPath: status.hostIP } }
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ .root.Values.telemetry.otlp.endpoint | quote }}
{{- if has .role (list "webhook" "proxy") }}
- name: OTEL_TRACES_SAMPLER_ARG
  value: {{ .root.Values.telemetry.otlp.samplingRatio | quote }}
{{- end }}
- name: TRACED_POD
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
- name: TRACED_NAMESPACE
  valueFrom: { fieldRef: { fieldPath: metadata.namespace } }
- name: TRACED_NODE
  valueFrom: { fieldRef: { fieldPath: spec.nodeName } }
- name: OTEL_RESOURCE_ATTRIBUTES
  value: k8s.pod.name=$(TRACED_POD),k8s.namespace.name=$(TRACED_NAMESPACE),k8s.node.name=$(TRACED_NODE)
{{- end }}

{{- /* The registries file, with root. */ -}}
{{- define "cache-registry.registriesArgument" -}}
{{- if include "cache-registry.registriesSecret" . -}}
- --registries=/etc/cache-registry/registries/{{ .Values.registriesSecret.key }}
{{- end }}
{{- end }}

{{- define "cache-registry.registriesMount" -}}
{{- if include "cache-registry.registriesSecret" . -}}
- name: registries
  mountPath: /etc/cache-registry/registries
  readOnly: true
{{- end }}
{{- end }}

{{- define "cache-registry.registriesVolume" -}}
{{- with include "cache-registry.registriesSecret" . -}}
- name: registries
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- end }}

{{- /* Starts pods anew when the file that the chart keeps has changed: it is read at the start. */ -}}
{{- define "cache-registry.registriesChecksum" -}}
{{- if not .Values.registriesSecret.name }}
{{- with .Values.registries }}
checksum/registries: {{ toYaml . | sha256sum }}
{{- end }}
{{- end }}
{{- end }}

{{- /* A PodDisruptionBudget. */ -}}
{{- define "cache-registry.budget" -}}
{{- if .values.podDisruptionBudget.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  {{- include "cache-registry.metadata" . | nindent 2 }}
spec:
  maxUnavailable: {{ .values.podDisruptionBudget.maxUnavailable }}
  # A pod that is not ready serves nobody, and must not hold up a drain.
  unhealthyPodEvictionPolicy: AlwaysAllow
  selector:
    matchLabels:
      {{- include "cache-registry.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{- /* A ServiceAccount. Its token is mounted where a pod asks for it, and nowhere else. */ -}}
{{- define "cache-registry.account" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  {{- include "cache-registry.metadata" . | nindent 2 }}
  {{- with .annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: false
{{- end }}
