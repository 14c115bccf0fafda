{{- /* Names, labels, references. */ -}}

{{- define "cache-registry.name" -}}
{{ .Values.nameOverride | default .Chart.Name | trunc 42 | trimSuffix "-" }}
{{- end }}

{{- /* What the names of all objects begin with. The longest end is -registry-credentials, and 63 is as long as a name may be. */ -}}
{{- define "cache-registry.fullname" -}}
{{- $name := include "cache-registry.name" . -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{ .Values.fullnameOverride | default $full | trunc 42 | trimSuffix "-" }}
{{- end }}

{{- /* Labels of an object that belongs to all roles. */ -}}
{{- define "cache-registry.labels" -}}
app.kubernetes.io/name: {{ include "cache-registry.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* Labels of a role's objects: a dict of root and role. */ -}}
{{- define "cache-registry.roleLabels" -}}
{{ include "cache-registry.labels" .root }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- /* Labels that select a role's pods, and never change: a dict of root and role. */ -}}
{{- define "cache-registry.selector" -}}
app.kubernetes.io/name: {{ include "cache-registry.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .role }}
{{- end }}

{{- /* metadata of an object: a dict of root, role and, where it is not the role, name. */ -}}
{{- define "cache-registry.metadata" -}}
name: {{ include "cache-registry.fullname" .root }}-{{ .name | default .role }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "cache-registry.roleLabels" . | nindent 2 }}
{{- end }}

{{- /* The reference of an image: a dict of repository, tag and digest. */ -}}
{{- define "cache-registry.reference" -}}
{{ .repository }}:{{ .tag }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{- /* The image of our own roles. */ -}}
{{- define "cache-registry.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{ include "cache-registry.reference" (dict "repository" .Values.image.repository "tag" $tag "digest" .Values.image.digest) }}
{{- end }}

{{- /* The same image as the nodes' proxies call it. */ -}}
{{- define "cache-registry.cachedImage" -}}
{{- $image := include "cache-registry.image" . -}}
{{- $host := splitList "/" $image | first -}}
{{- if not (contains "/" $image) -}}
{{- $image = printf "docker.io/library/%s" $image -}}
{{- else if not (or (contains "." $host) (contains ":" $host) (eq $host "localhost")) -}}
{{- $image = printf "docker.io/%s" $image -}}
{{- else -}}
{{- $image = printf "%s/%s" (replace ":" "_" $host) (trimPrefix (printf "%s/" $host) $image) -}}
{{- end -}}
{{ include "cache-registry.nodeAddress" . }}/{{ $image }}
{{- end }}

{{- /* What the names of cached images begin with. */ -}}
{{- define "cache-registry.nodeAddress" -}}
localhost:{{ .Values.proxy.hostPort }}
{{- end }}

{{- /* Where the registry is written to, by the controllers alone. */ -}}
{{- define "cache-registry.registryPort" -}}5000{{- end }}

{{- /* Where it is read, by the proxies. */ -}}
{{- define "cache-registry.readerPort" -}}5001{{- end }}

{{- /* Where the one that is read shows its own metrics. */ -}}
{{- define "cache-registry.registryDebugPort" -}}5003{{- end }}

{{- /* Where the controllers give the proxies tokens. */ -}}
{{- define "cache-registry.pullTokenPort" -}}8082{{- end }}

{{- /* Whether they do. A proxy shows them the password that it has for the registry, so there has to be one. */ -}}
{{- define "cache-registry.givesPullTokens" -}}
{{- if and .Values.controllers.pullSecrets.enabled .Values.registry.authentication.enabled }}true{{ end -}}
{{- end }}

{{- define "cache-registry.webhookPort" -}}9443{{- end }}

{{- /* The port of probes and metrics, but for the proxies' own (proxy.adminPort). */ -}}
{{- define "cache-registry.adminPort" -}}8080{{- end }}

{{- /* The registry's host and port by its name in the cluster. */ -}}
{{- define "cache-registry.registryHost" -}}
{{ include "cache-registry.fullname" . }}-registry.{{ .Release.Namespace }}.svc:{{ include "cache-registry.registryPort" . }}
{{- end }}

{{- /* The Secret of the registry's credentials; empty where it lets everybody in. */ -}}
{{- define "cache-registry.registryCredentialsSecret" -}}
{{- if .Values.registry.authentication.enabled -}}
{{ include "cache-registry.fullname" . }}-registry-credentials
{{- end -}}
{{- end }}

{{- /* The Secret of the webhook's certificate. */ -}}
{{- define "cache-registry.certificateSecret" -}}
{{- if eq (include "cache-registry.certificateMode" .) "provided" -}}
{{ .Values.controllers.webhook.certificate.secretName }}
{{- else -}}
{{ include "cache-registry.fullname" . }}-webhook-certificate
{{- end -}}
{{- end }}

{{- /* Where the webhook's certificate comes from: `auto` decided. */ -}}
{{- define "cache-registry.certificateMode" -}}
{{- $mode := .Values.controllers.webhook.certificate.mode -}}
{{- if ne $mode "auto" -}}
{{ $mode }}
{{- else if .Capabilities.APIVersions.Has "cert-manager.io/v1/Certificate" -}}
cert-manager
{{- else -}}
self-managed
{{- end -}}
{{- end }}

{{- /* Of which platforms images are copied: a word, or a list with commas. */ -}}
{{- define "cache-registry.platforms" -}}
{{- $platforms := .Values.controllers.platforms -}}
{{- if kindIs "string" $platforms -}}{{ $platforms }}{{- else -}}{{ join "," $platforms }}{{- end -}}
{{- end }}

{{- /* The Secret of the registries file; empty where there is none. */ -}}
{{- define "cache-registry.registriesSecret" -}}
{{- if .Values.registriesSecret.name -}}
{{ .Values.registriesSecret.name }}
{{- else if .Values.registries -}}
{{ include "cache-registry.fullname" . }}-registries
{{- end -}}
{{- end }}

{{- /* The settings of the registry's volume, as YAML: the two spellings together. */ -}}
{{- define "cache-registry.persistence" -}}
{{ mergeOverwrite (deepCopy .Values.registry.persistence) (deepCopy (.Values.registry.persistance | default dict)) | toYaml }}
{{- end }}

{{- /* The Lease of the controllers, by the name that they know. */ -}}
{{- define "cache-registry.lease" -}}cache-registry-controllers{{- end }}
