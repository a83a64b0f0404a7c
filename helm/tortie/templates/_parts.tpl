{{/* Labels of everything that the templates make themselves; what lies in files/ is installed as it is. */}}
{{- define "tortie.labels" -}}
app.kubernetes.io/part-of: tortie
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* An image; the argument is (root, its values). */}}
{{- define "tortie.image" -}}
{{- $root := index . 0 }}{{ $image := index . 1 -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/* Where client libraries look for the API server, in place of what the kubelet says. */}}
{{- define "tortie.apiServer" -}}
{{- with .Values.apiServer.host }}
- name: KUBERNETES_SERVICE_HOST
  value: {{ . | quote }}
- name: KUBERNETES_SERVICE_PORT
  value: {{ $.Values.apiServer.port | quote }}
{{- end }}
{{- end }}

{{/* Probes of a container whose port has the name `metrics`. */}}
{{- define "tortie.probes" -}}
livenessProbe:
  httpGet: {path: /livez, port: metrics}
  initialDelaySeconds: 10
  periodSeconds: 10
  timeoutSeconds: 5
readinessProbe:
  httpGet: {path: /readyz, port: metrics}
  periodSeconds: 3
  timeoutSeconds: 3
{{- end }}

{{/* The text of a CRD with the annotation by which Helm leaves it. Text, because a round through Helm's YAML writes large
integers as floats. */}}
{{- define "tortie.kept" -}}
{{- $keep := "    helm.sh/resource-policy: keep" }}
{{- if regexMatch "(?m)^  annotations:$" . }}
{{- regexReplaceAll "(?m)^  annotations:$" . (printf "  annotations:\n%s" $keep) }}
{{- else }}
{{- regexReplaceAll "(?m)^metadata:$" . (printf "metadata:\n  annotations:\n%s" $keep) }}
{{- end }}
{{- end }}
