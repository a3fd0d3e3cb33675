{{- define "pgweir.name" -}}
{{ .Values.fullnameOverride | default .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "pgweir.selector" -}}
app.kubernetes.io/name: pgweir
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Namespaces whose EndpointSlices are listed, each once, as the keys of a dict. */}}
{{- define "pgweir.namespaces" -}}
{{- $found := dict }}
{{- $clusters := concat (list .Values.config) (values (.Values.config.clusters | default dict)) }}
{{- range $clusters }}
{{- with .kubernetes }}
{{- $_ := set $found (.namespace | default $.Release.Namespace) true }}
{{- end }}
{{- end }}
{{- $found | toJson }}
{{- end }}

{{- /* The configuration: what the values say, and what the chart itself decides. */}}
{{- define "pgweir.config" -}}
{{- $name := include "pgweir.name" . }}
{{- $config := mergeOverwrite (deepCopy .Values.config) (dict "listen" "0.0.0.0:6432" "http" "0.0.0.0:9930" "peers" (printf "%s-all:6432" $name)) }}
{{- $where := pick $config "servers" "dns" "kubernetes" "patroni" "clusters" }}
{{- if and .Values.headless.selector (not $where) }}
{{- $_ := set $config "dns" (printf "%s-servers:%d" $name (int .Values.headless.ports.postgresql)) }}
{{- else if not $where }}
{{- fail "say where the servers are: headless.selector, or config with one of servers, dns, kubernetes, patroni and clusters" }}
{{- end }}
{{- toYaml $config }}
{{- end }}
