{{- /*
The Job that removes, on the storage of the registry that is stopped. On a volume the containers before the last run one after
the other; what is on the volume is told by their termination messages, so that nobody needs to read logs.
*/ -}}
{{- define "cache-registry.collectingJob" -}}
{{- $values := .Values.registry.garbageCollection }}
{{- /* Where the registry runs, and as whom: its files are that user's. */}}
{{- $role := dict "root" . "role" "collection" "values" .Values.registry }}
{{- $account := dict "root" . "role" "registry" "values" .Values.registry }}
{{- $container := dict "securityContext" .Values.registry.securityContext "resources" $values.resources }}
apiVersion: batch/v1
kind: Job
metadata:
  labels:
    {{- include "cache-registry.roleLabels" $role | nindent 4 }}
spec:
  template:
    metadata:
      {{- include "cache-registry.podMetadata" $role | nindent 6 }}
    spec:
      {{- include "cache-registry.podPlace" $account | nindent 6 }}
      restartPolicy: Never
      enableServiceLinks: false
      # What is cut is begun anew: there is nothing to wind up.
      terminationGracePeriodSeconds: 2
      {{- if include "cache-registry.bucket" . }}
      containers:
        - {{ include "cache-registry.collectContainer" . | nindent 10 | trim }}
      {{- else }}
      initContainers:
        - {{ include "cache-registry.container" (dict "root" . "role" "before" "values" $container) | nindent 10 | trim }}
          args: [volume, measure, /var/lib/registry, /dev/termination-log]
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry, readOnly: true }
        - {{ include "cache-registry.container" (dict "root" . "role" "untagged" "values" $container) | nindent 10 | trim }}
          {{- if $values.deleteUntagged }}
          args: [volume, remove-untagged, /var/lib/registry, {{ $values.untaggedAfter }}]
          {{- else }}
          args: [volume, prepare, /var/lib/registry]
          {{- end }}
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry }
        - {{ include "cache-registry.collectContainer" . | nindent 10 | trim }}
      containers:
        - {{ include "cache-registry.container" (dict "root" . "role" "after" "values" $container) | nindent 10 | trim }}
          args: [volume, measure, /var/lib/registry, /dev/termination-log]
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry, readOnly: true }
      {{- end }}
      volumes:
        - name: configuration
          configMap:
            name: {{ include "cache-registry.fullname" . }}-registry
        {{- with include "cache-registry.storageVolumes" . | trim }}
        {{- . | nindent 8 }}
        {{- end }}
{{- end }}

{{- /* Distribution's own. In a bucket it is all that there is to do, and its log tells how much it has removed. */ -}}
{{- define "cache-registry.collectContainer" -}}
name: collect
image: {{ include "cache-registry.reference" .Values.registry.image }}
imagePullPolicy: {{ .Values.registry.image.pullPolicy }}
# Without --delete-untagged, which in distribution 3.1.2 takes the layers of images that have a tag.
args: [garbage-collect, /etc/cache-registry/config.yml]
terminationMessagePolicy: FallbackToLogsOnError
securityContext:
  {{- toYaml .Values.registry.securityContext | nindent 2 }}
resources:
  {{- toYaml .Values.registry.garbageCollection.resources | nindent 2 }}
env:
  {{- include "cache-registry.registryEnvironment" . | nindent 2 }}
volumeMounts:
  - { name: configuration, mountPath: /etc/cache-registry, readOnly: true }
  {{- with include "cache-registry.storageMounts" (dict "root" . "isReader" false) | trim }}
  {{- . | nindent 2 }}
  {{- end }}
{{- end }}
