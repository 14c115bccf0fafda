{{- /*
Where the registry keeps images: on a volume, or in a bucket by one of distribution's storage drivers
(https://distribution.github.io/distribution/storage-drivers/).
*/ -}}

{{- /* The names of all that values ask for: `volume` and the buckets. More than one is refused. */ -}}
{{- define "cache-registry.storages" -}}
{{- $persistence := include "cache-registry.persistence" . | fromYaml -}}
{{- $asked := list -}}
{{- if $persistence.enabled }}{{ $asked = append $asked "volume" }}{{ end -}}
{{- range list "s3" "gcs" "azure" }}{{ if get $persistence . }}{{ $asked = append $asked . }}{{ end }}{{ end -}}
{{ join " " $asked }}
{{- end }}

{{- /* The driver of the bucket; empty where images are on a volume, one that lasts or not. */ -}}
{{- define "cache-registry.bucket" -}}
{{- $storage := include "cache-registry.storages" . -}}
{{- if has $storage (list "s3" "gcs" "azure") }}{{ $storage }}{{ end -}}
{{- end }}

{{- define "cache-registry.storageDriver" -}}
{{- $persistence := include "cache-registry.persistence" . | fromYaml -}}
{{- with include "cache-registry.bucket" . -}}
{{ . }}:
  {{- toYaml (get $persistence .) | nindent 2 }}
  {{- if and (eq . "gcs") $persistence.gcsExistingSecret }}
  keyfile: {{ include "cache-registry.storageCredentialsFolder" . }}/credentials.json
  {{- end }}
  {{- if eq . "azure" }}
  credentials:
    type: {{ ternary "shared_key" "default_credentials" (not (empty $persistence.azureExistingSecret)) }}
  {{- end }}
# Nodes need not reach the bucket: what they pull comes through the registry.
redirect:
  disable: true
{{- else -}}
filesystem:
  rootdirectory: /var/lib/registry
{{- end }}
{{- end }}

{{- /* Of a Secret that is mounted, and of one with a CA. */ -}}
{{- define "cache-registry.storageCredentialsFolder" -}}/etc/cache-registry-storage{{- end }}
{{- define "cache-registry.storageCAFolder" -}}/etc/cache-registry-storage-ca{{- end }}

{{- /* Credentials. Without a Secret, the drivers take those that the cloud gives the pod's ServiceAccount. */ -}}
{{- define "cache-registry.storageEnvironment" -}}
{{- $persistence := include "cache-registry.persistence" . | fromYaml -}}
{{- $bucket := include "cache-registry.bucket" . -}}
{{- if and (eq $bucket "s3") $persistence.s3ExistingSecret -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom: { secretKeyRef: { name: {{ $persistence.s3ExistingSecret }}, key: accessKey } }
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: { secretKeyRef: { name: {{ $persistence.s3ExistingSecret }}, key: secretKey } }
{{- else if and (eq $bucket "azure") $persistence.azureExistingSecret -}}
- name: REGISTRY_STORAGE_AZURE_ACCOUNTKEY
  valueFrom: { secretKeyRef: { name: {{ $persistence.azureExistingSecret }}, key: accountkey } }
{{- if not $persistence.azure.accountname }}
- name: REGISTRY_STORAGE_AZURE_ACCOUNTNAME
  valueFrom: { secretKeyRef: { name: {{ $persistence.azureExistingSecret }}, key: accountname } }
{{- end }}
{{- end }}
{{- if and $bucket $persistence.caSecret }}
- name: SSL_CERT_FILE
  value: {{ include "cache-registry.storageCAFolder" . }}/ca.crt
{{- end }}
{{- end }}

{{- /* Mounts of a container of distribution's: a dict of root and isReader. */ -}}
{{- define "cache-registry.storageMounts" -}}
{{- $persistence := include "cache-registry.persistence" .root | fromYaml -}}
{{- with include "cache-registry.bucket" .root -}}
{{- if and (eq . "gcs") $persistence.gcsExistingSecret }}
- name: storage-credentials
  mountPath: {{ include "cache-registry.storageCredentialsFolder" . }}
  readOnly: true
{{- end }}
{{- if $persistence.caSecret }}
- name: storage-ca
  mountPath: {{ include "cache-registry.storageCAFolder" . }}
  readOnly: true
{{- end }}
{{- else -}}
- name: images
  mountPath: /var/lib/registry
  {{- if .isReader }}
  readOnly: true
  {{- end }}
{{- end }}
{{- end }}

{{- /* And the volumes that they are of. */ -}}
{{- define "cache-registry.storageVolumes" -}}
{{- $persistence := include "cache-registry.persistence" . | fromYaml -}}
{{- with include "cache-registry.bucket" . -}}
{{- if and (eq . "gcs") $persistence.gcsExistingSecret }}
- name: storage-credentials
  secret:
    secretName: {{ $persistence.gcsExistingSecret }}
    defaultMode: 0440
    items:
      - { key: credentials.json, path: credentials.json }
{{- end }}
{{- if $persistence.caSecret }}
- name: storage-ca
  secret:
    secretName: {{ $persistence.caSecret }}
    defaultMode: 0440
    items:
      - { key: ca.crt, path: ca.crt }
{{- end }}
{{- else -}}
- name: images
  {{- if $persistence.enabled }}
  persistentVolumeClaim:
    claimName: {{ $persistence.existingClaim | default (printf "%s-registry" (include "cache-registry.fullname" .)) }}
  {{- else }}
  emptyDir: {}
  {{- end }}
{{- end }}
{{- end }}
