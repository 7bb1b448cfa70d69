{{/* An agent DaemonSet. Takes a dict: root, component, image, nodeSelector, affinity (YAML). */}}
{{- define "infera.daemonset" -}}
{{- $root := .root -}}
{{- $agent := $root.Values.agent -}}
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: {{ include "infera.fullname" $root }}-{{ .component }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "infera.labels" (list $root .component) | nindent 4 }}
spec:
  selector:
    matchLabels:
      {{- include "infera.selector" (list $root .component) | nindent 6 }}
  updateStrategy:
    {{- toYaml $agent.updateStrategy | nindent 4 }}
  template:
    metadata:
      labels:
        {{- include "infera.selector" (list $root .component) | nindent 8 }}
        app.kubernetes.io/part-of: infera
        {{- with $root.Values.commonLabels }}
        {{- include "infera.strings" . | nindent 8 }}
        {{- end }}
        {{- with $agent.podLabels }}
        {{- include "infera.strings" . | nindent 8 }}
        {{- end }}
      annotations:
        kubectl.kubernetes.io/default-container: agent
        {{- if $agent.restartOnConfigChange }}
        checksum/config: {{ include "infera.toml" $root | sha256sum }}
        {{- end }}
        {{- with $agent.podAnnotations }}
        {{- include "infera.strings" . | nindent 8 }}
        {{- end }}
    spec:
      serviceAccountName: {{ include "infera.serviceAccount" $root }}
      priorityClassName: {{ $agent.priorityClassName }}
      terminationGracePeriodSeconds: {{ int64 $agent.terminationGracePeriodSeconds }}
      # The scheduler judges the node's threads, which it finds in /proc.
      hostPID: true
      securityContext:
        seccompProfile:
          type: RuntimeDefault
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .nodeSelector }}
      nodeSelector:
        {{- include "infera.strings" . | nindent 8 }}
      {{- end }}
      affinity:
        {{- .affinity | nindent 8 }}
      {{- with $agent.tolerations }}
      tolerations:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        # One container: the agent starts the guard, the guard the scheduler, and both leave the
        # node to the stock scheduler when the agent is gone.
        - name: agent
          image: {{ .image }}
          imagePullPolicy: {{ $agent.image.pullPolicy }}
          command:
            - infera-agent
          args:
            - --node-name=$(NODE_NAME)
            - --config=/etc/infera/infera.toml
            - --listen=0.0.0.0:{{ int64 $root.Values.metrics.port }}
            - --debounce-ms={{ int64 $agent.debounceMs }}
            - --prefix={{ $root.Values.prefix }}
            {{- if $root.Values.rbac.status }}
            - --node-condition
            {{- end }}
            {{- if not $agent.scheduler }}
            - --no-scheduler
            {{- end }}
            {{- range $agent.extraArgs }}
            - {{ . | quote }}
            {{- end }}
          env:
            - name: NODE_NAME
              valueFrom:
                fieldRef:
                  fieldPath: spec.nodeName
            # Its own pod is System, as the node's other services are.
            - name: POD_UID
              valueFrom:
                fieldRef:
                  fieldPath: metadata.uid
            {{- with $agent.extraEnv }}
            {{- toYaml . | nindent 12 }}
            {{- end }}
          ports:
            - name: metrics
              containerPort: {{ int64 $root.Values.metrics.port }}
              protocol: TCP
          startupProbe:
            httpGet:
              path: /healthz
              port: metrics
            {{- toYaml $agent.startupProbe | nindent 12 }}
          livenessProbe:
            httpGet:
              path: /healthz
              port: metrics
            {{- toYaml $agent.livenessProbe | nindent 12 }}
          readinessProbe:
            httpGet:
              path: /readyz
              port: metrics
            {{- toYaml $agent.readinessProbe | nindent 12 }}
          {{- with $agent.resources }}
          resources:
            {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            privileged: false
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            runAsUser: 0
            capabilities:
              drop:
                - ALL
              add:
                # Loading a scheduler, and its tables.
                - BPF
                - PERFMON
                - SYS_RESOURCE
                # The guard detaches the scheduler through its BPF link, whichever process loaded it.
                - SYS_ADMIN
                # The guard is a real-time process with locked memory.
                - SYS_NICE
                - IPC_LOCK
                # All that the scheduler keeps once it has attached.
                - DAC_READ_SEARCH
          volumeMounts:
            - name: config
              mountPath: /etc/infera
              readOnly: true
            # The node's whole tree: a container sees only its own part.
            - name: cgroup
              mountPath: /sys/fs/cgroup
              readOnly: true
            - name: run
              mountPath: /run/infera
            - name: stats
              mountPath: /var/run/scx
            - name: state
              mountPath: /var/lib/infera
      volumes:
        - name: config
          configMap:
            name: {{ include "infera.fullname" $root }}-config
        - name: cgroup
          hostPath:
            path: /sys/fs/cgroup
            type: Directory
        - name: run
          hostPath:
            path: /run/infera
            type: DirectoryOrCreate
        - name: stats
          hostPath:
            path: /run/scx
            type: DirectoryOrCreate
        - name: state
          hostPath:
            path: /var/lib/infera
            type: DirectoryOrCreate
{{- end -}}
