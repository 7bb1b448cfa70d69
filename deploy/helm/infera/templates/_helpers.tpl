{{/* What object names begin with. */}}
{{- define "infera.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "infera.serviceAccount" -}}
{{- default (printf "%s-agent" (include "infera.fullname" .)) .Values.serviceAccount.name -}}
{{- end -}}

{{/* What all pods of the release have. */}}
{{- define "infera.anySelector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* What selects an agent's pods: never a version, selectors cannot be changed.
     Takes (list ROOT COMPONENT). */}}
{{- define "infera.selector" -}}
{{ include "infera.anySelector" (index . 0) }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of an object. Takes (list ROOT COMPONENT). */}}
{{- define "infera.labels" -}}
{{- $root := index . 0 -}}
{{ include "infera.selector" . }}
app.kubernetes.io/part-of: infera
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- with $root.Values.commonLabels }}
{{ include "infera.strings" . }}
{{- end }}
{{- end -}}

{{/* A map of strings. `--set a.b=true` makes a boolean, and a number from a file is a float. */}}
{{- define "infera.strings" -}}
{{- $lines := list -}}
{{- range $key, $value := . -}}
{{- $lines = append $lines (printf "%s: %s" $key (include "infera.string" $value | quote)) -}}
{{- end -}}
{{- join "\n" $lines -}}
{{- end -}}

{{- define "infera.string" -}}
{{- if kindIs "float64" . -}}{{ int64 . }}{{- else -}}{{ toString . }}{{- end -}}
{{- end -}}

{{/* The image. Takes (list ROOT TAG DIGEST). */}}
{{- define "infera.image" -}}
{{- $root := index . 0 -}}
{{- $repository := $root.Values.agent.image.repository -}}
{{- if index . 2 -}}
{{- printf "%s@%s" $repository (index . 2) -}}
{{- else -}}
{{- printf "%s:%s" $repository (default $root.Chart.AppVersion (index . 1)) -}}
{{- end -}}
{{- end -}}

{{/* Where agents run: where the user says, main ones everywhere but on canary nodes, and never two
     at once. Takes (list ROOT MAIN).
     A node is a canary when it has all labels of the selector, so it is none when it lacks one:
     not (a and b) is (not a) or (not b), and terms are alternatives. Each is combined with each
     term of the user's.
     When a node changes sides, the new agent's pod waits until the old one is gone. */}}
{{- define "infera.affinity" -}}
{{- $root := index . 0 -}}
{{- $canary := $root.Values.agent.canary -}}
{{- $affinity := deepCopy $root.Values.agent.affinity -}}
{{- if and (index . 1) $canary.enabled -}}
{{- $node := get $affinity "nodeAffinity" | default dict -}}
{{- $required := get $node "requiredDuringSchedulingIgnoredDuringExecution" | default dict -}}
{{- $terms := list -}}
{{- range $term := get $required "nodeSelectorTerms" | default (list dict) -}}
{{- range $key, $value := $canary.nodeSelector -}}
{{- $lacks := dict "key" $key "operator" "NotIn" "values" (list (include "infera.string" $value)) -}}
{{- $combined := deepCopy $term -}}
{{- $_ := set $combined "matchExpressions" (append (get $term "matchExpressions" | default list) $lacks) -}}
{{- $terms = append $terms $combined -}}
{{- end -}}
{{- end -}}
{{- $_ := set $node "requiredDuringSchedulingIgnoredDuringExecution" (dict "nodeSelectorTerms" $terms) -}}
{{- $_ := set $affinity "nodeAffinity" $node -}}
{{- end -}}
{{- with $affinity }}{{ toYaml . }}
{{ end -}}
podAntiAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    - topologyKey: kubernetes.io/hostname
      labelSelector:
        matchLabels:
          {{- include "infera.anySelector" $root | nindent 10 }}
        matchExpressions:
          - key: app.kubernetes.io/component
            operator: In
            values: [agent, agent-canary]
{{- end -}}

{{/* infera.toml. */}}
{{- define "infera.toml" -}}
{{- with .Values.config -}}
{{- if .policy }}policy = {{ toJson .policy }}
{{ end -}}
system_units = {{ .system_units }}
loans = {{ .loans }}
limits = {{ .limits | quote }}
user_bound_ms = {{ int64 .user_bound_ms }}
{{- range $tier, $section := .tiers }}

[tiers.{{ $tier }}]
{{- range $key, $value := $section }}
{{- if has $key (list "cgroups" "fence_cpus") }}
{{ $key }} = {{ toJson $value }}
{{- else if eq $key "min_share" }}
{{ $key }} = {{ printf "%.3f" (float64 $value) }}
{{- else }}
{{ $key }} = {{ int64 $value }}
{{- end }}
{{- end }}
{{- end }}

[priority_mapping]
critical = {{ int64 .priority_mapping.critical }}
high = {{ int64 .priority_mapping.high }}
normal = {{ int64 .priority_mapping.normal }}
low = {{ int64 .priority_mapping.low }}
{{- end }}
{{- end -}}

{{/* What helm cannot express in the schema. */}}
{{- define "infera.validate" -}}
{{- with .Values.config.priority_mapping -}}
{{- if not (and (gt (int64 .critical) (int64 .high)) (gt (int64 .high) (int64 .normal)) (gt (int64 .normal) (int64 .low))) -}}
{{- fail "config.priority_mapping: thresholds must fall from critical over high and normal to low" -}}
{{- end -}}
{{- end -}}
{{- if and .Values.metrics.serviceMonitor.enabled .Values.metrics.podMonitor.enabled -}}
{{- fail "metrics: enable serviceMonitor or podMonitor, not both: every series would be there twice" -}}
{{- end -}}
{{- end -}}
