//! The node's own services, which are System without a rule of the operator's: the kubelet, the
//! container runtime, systemd and what an operator needs to reach the node.
//!
//! Purpose: beside pods that keep every CPU busy a kubelet of Normal misses its heartbeats, and
//! the node becomes NotReady. `Config::default_rules` makes rules of this list.
//! Key decision: named units instead of the whole of `system.slice`, where an operator's database
//! or a node's batch job may run, too.
//! Invariant: what runs in a container is never System by this list. A container's cgroup below a
//! runtime's unit is Normal.

/// Slices that hold nothing but the kubelet and the container runtime, with all below them.
pub const SLICES: &[&str] = &[
    // EKS, Bottlerocket.
    "/runtime.slice",
    // Kubernetes' own example of node allocatable.
    "/podruntime.slice",
    // Talos, whose init is not systemd.
    "/podruntime",
];

/// Where every other unit of this list is.
pub const SYSTEM_SLICE: &str = "/system.slice";

/// PID 1, and what a socket-activated sshd starts for a connection.
pub const OTHERS: &[&str] = &["/init.scope", "/system.slice/system-sshd.slice"];

/// Services of [`SYSTEM_SLICE`] that start containers; `*` is any part of a name. A container's
/// cgroup may be below the service's: containerd puts it there when the kubelet names a cgroup as
/// systemd does, and containerd itself does not use systemd.
pub const RUNTIMES: &[&str] = &[
    "containerd.service",
    "crio.service",
    "cri-o.service",
    "docker.service",
    "cri-docker.service",
    "cri-dockerd.service",
    "snap.docker.dockerd.service",
    // Kubelet, runtime and control plane in one service.
    "k3s.service",
    "k3s-agent.service",
    "rke2-server.service",
    "rke2-agent.service",
    "k0scontroller.service",
    "k0sworker.service",
    "snap.microk8s.daemon-*.service",
    "snap.k8s.*.service",
];

/// Cgroups of [`SLICES`] below which containers may be.
pub const RUNTIME_CGROUPS: &[&str] = &[
    "/runtime.slice/*",
    "/podruntime.slice/*",
    "/podruntime/runtime",
];

/// Sub-cgroups into which a runtime puts its own processes: cgroup v2 allows none beside
/// sub-cgroups.
pub const OWN_SUBGROUPS: &[&str] = &["init", "supervisor"];

/// Services of [`SYSTEM_SLICE`] without containers.
pub const SERVICES: &[&str] = &[
    "kubelet.service",
    "snap.kubelet.daemon.service",
    "systemd-journald.service",
    "systemd-logind.service",
    "systemd-networkd.service",
    "systemd-oomd.service",
    "systemd-resolved.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "NetworkManager.service",
    "dbus.service",
    "dbus-broker.service",
    "sshd.service",
    "ssh.service",
    "infera.service",
    "infera-agent.service",
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_unit_is_named_once_and_ends_like_a_unit() {
        let units: Vec<&str> = RUNTIMES.iter().chain(SERVICES).copied().collect();
        assert!(units.iter().all(|unit| unit.ends_with(".service")));
        let distinct: BTreeSet<&str> = units.iter().copied().collect();
        assert_eq!(distinct.len(), units.len());
    }
}
