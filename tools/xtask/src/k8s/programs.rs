//! Which programs there are, in which versions, and what each is built from.

/// Kubernetes' own programs and their libraries (`v0.MINOR.PATCH`).
pub const KUBERNETES: &str = "1.37.2";
/// The version of its store that Kubernetes is released with, or newer.
pub const ETCD: &str = "3.7.3";
/// The last series that many still use.
pub const HELM_3: &str = "3.22.0";
/// The newest series.
pub const HELM_4: &str = "4.3.1";
/// As a Go module; Debian's package is taken first.
pub const PROMETHEUS: &str = "0.316.0";

/// What defines monitors and rules in a cluster.
pub const PROMETHEUS_OPERATOR: &str = "0.85.0";

/// A program that tests run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The API server's store.
    Etcd,
    /// The API server.
    Apiserver,
    /// Creates a `DaemonSet`'s pods, among much else.
    ControllerManager,
    /// Decides which node a pod goes to, and when.
    Scheduler,
    /// The command line.
    Kubectl,
    /// Installs charts.
    Helm3,
    /// Installs charts.
    Helm4,
    /// Checks and tests alerts.
    Promtool,
}

/// Where a program comes from when it is not there.
pub enum Source {
    /// A package of the module `k8s.io/kubernetes`.
    Kubernetes,
    /// `go get PACKAGE@VERSION` and `go build`, with these variables set to the version.
    Module {
        /// The package.
        package: &'static str,
        /// With the `v`.
        version: String,
        /// Names for the linker's `-X`.
        variables: &'static [&'static str],
    },
}

impl Program {
    /// All of them.
    pub const ALL: [Program; 8] = [
        Program::Etcd,
        Program::Apiserver,
        Program::ControllerManager,
        Program::Scheduler,
        Program::Kubectl,
        Program::Helm3,
        Program::Helm4,
        Program::Promtool,
    ];

    /// What it is called, in messages and in a directory of assets.
    pub fn name(self) -> &'static str {
        match self {
            Program::Etcd => "etcd",
            Program::Apiserver => "kube-apiserver",
            Program::ControllerManager => "kube-controller-manager",
            Program::Scheduler => "kube-scheduler",
            Program::Kubectl => "kubectl",
            Program::Helm3 => "helm3",
            Program::Helm4 => "helm4",
            Program::Promtool => "promtool",
        }
    }

    /// What it is called in the cache's directory of this Kubernetes version: those with versions
    /// of their own carry them, so that a newer one replaces an older.
    pub fn cached_name(self) -> String {
        match self {
            Program::Helm3 => format!("helm-{HELM_3}"),
            Program::Helm4 => format!("helm-{HELM_4}"),
            other => other.name().to_owned(),
        }
    }

    /// What it is built from.
    pub fn source(self) -> Source {
        let module = |package, version: &str, variables| Source::Module {
            package,
            version: format!("v{version}"),
            variables,
        };
        match self {
            Program::Apiserver
            | Program::ControllerManager
            | Program::Scheduler
            | Program::Kubectl => Source::Kubernetes,
            Program::Etcd => module("go.etcd.io/etcd/server/v3", ETCD, &[]),
            Program::Helm3 => module(
                "helm.sh/helm/v3/cmd/helm",
                HELM_3,
                &["helm.sh/helm/v3/internal/version.version"],
            ),
            Program::Helm4 => module(
                "helm.sh/helm/v4/cmd/helm",
                HELM_4,
                &["helm.sh/helm/v4/internal/version.version"],
            ),
            Program::Promtool => module(
                "github.com/prometheus/prometheus/cmd/promtool",
                PROMETHEUS,
                &[],
            ),
        }
    }
}
