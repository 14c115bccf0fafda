{{- /*
The Job that removes, on the volume of the registry that is stopped. The containers before the last run one after the other;
what is on the volume is told by their termination messages, so that nobody needs to read logs.
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
      initContainers:
        - {{ include "cache-registry.container" (dict "root" . "role" "before" "values" $container) | nindent 10 | trim }}
          args: [volume, measure, /var/lib/registry, /dev/termination-log]
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry, readOnly: true }
        {{- if $values.deleteUntagged }}
        - {{ include "cache-registry.container" (dict "root" . "role" "untagged" "values" $container) | nindent 10 | trim }}
          args: [volume, remove-untagged, /var/lib/registry, {{ $values.untaggedAfter }}]
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry }
        {{- end }}
        - name: collect
          image: {{ include "cache-registry.reference" .Values.registry.image }}
          imagePullPolicy: {{ .Values.registry.image.pullPolicy }}
          # Without --delete-untagged, which in distribution 3.1.2 takes the layers of images that have a tag.
          args: [garbage-collect, /etc/cache-registry/config.yml]
          terminationMessagePolicy: FallbackToLogsOnError
          securityContext:
            {{- toYaml .Values.registry.securityContext | nindent 12 }}
          resources:
            {{- toYaml $values.resources | nindent 12 }}
          env:
            - name: OTEL_TRACES_EXPORTER
              value: none
            {{- with .Values.registry.env }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          volumeMounts:
            - { name: configuration, mountPath: /etc/cache-registry, readOnly: true }
            - { name: images, mountPath: /var/lib/registry }
      containers:
        - {{ include "cache-registry.container" (dict "root" . "role" "after" "values" $container) | nindent 10 | trim }}
          args: [volume, measure, /var/lib/registry, /dev/termination-log]
          terminationMessagePolicy: FallbackToLogsOnError
          volumeMounts:
            - { name: images, mountPath: /var/lib/registry, readOnly: true }
      volumes:
        - name: configuration
          configMap:
            name: {{ include "cache-registry.fullname" . }}-registry
        - {{ include "cache-registry.imagesVolume" . | nindent 10 | trim }}
{{- end }}
