//! Where pods' cgroups are: found in the cgroup tree itself, without a request to another program.

use infera_plan::QosClass;
use std::fs;
use std::path::Path;

/// The cgroup that holds all pods, and how the kubelet names what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kubepods {
    /// By systemd's rules: each name repeats those above. With the path up to the slice and the
    /// slice's name without its end.
    Systemd(String, String),
    /// As directories.
    Cgroupfs(String),
}

impl Kubepods {
    /// Looks at `root`, the cgroup mount, and one level below. `None` where no kubelet has
    /// been yet.
    pub fn find(root: &Path) -> Option<Kubepods> {
        let mut names = directories(root);
        // Where the kubelet has its own cgroup root, one below.
        let nested: Vec<String> = names
            .iter()
            .flat_map(|top| {
                let inner = directories(&root.join(top));
                inner.into_iter().map(move |name| format!("{top}/{name}"))
            })
            .collect();
        names.extend(nested);
        names.iter().find_map(|path| Kubepods::named(path))
    }

    fn named(path: &str) -> Option<Kubepods> {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if name == "kubepods" {
            return Some(Kubepods::Cgroupfs(format!("/{path}")));
        }
        let stem = name.strip_suffix(".slice")?;
        let above = match above {
            "" => String::new(),
            above => format!("/{above}"),
        };
        (stem == "kubepods" || stem.ends_with("-kubepods"))
            .then(|| Kubepods::Systemd(above, stem.to_owned()))
    }

    /// The cgroup of a pod, below the mount.
    pub fn cgroup(&self, uid: &str, qos: QosClass) -> String {
        let class = match qos {
            QosClass::Guaranteed => None,
            QosClass::Burstable => Some("burstable"),
            QosClass::BestEffort => Some("besteffort"),
        };
        match self {
            Kubepods::Cgroupfs(top) => match class {
                None => format!("{top}/pod{uid}"),
                Some(class) => format!("{top}/{class}/pod{uid}"),
            },
            Kubepods::Systemd(above, stem) => {
                // A dash would be another level.
                let uid = uid.replace('-', "_");
                match class {
                    None => format!("{above}/{stem}.slice/{stem}-pod{uid}.slice"),
                    Some(class) => format!(
                        "{above}/{stem}.slice/{stem}-{class}.slice/{stem}-{class}-pod{uid}.slice"
                    ),
                }
            }
        }
    }
}

fn directories(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    // The same answer whatever order the kernel lists them in.
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(dirs: &[&str]) -> Option<Kubepods> {
        let root = tempfile::tempdir().unwrap();
        for dir in dirs {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        Kubepods::find(root.path())
    }

    #[test]
    fn both_drivers_are_known() {
        let systemd = found(&["system.slice", "kubepods.slice"]).unwrap();
        assert_eq!(
            systemd.cgroup("a-b", QosClass::Burstable),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-poda_b.slice"
        );
        assert_eq!(
            systemd.cgroup("a-b", QosClass::Guaranteed),
            "/kubepods.slice/kubepods-poda_b.slice"
        );
        let cgroupfs = found(&["init", "kubepods"]).unwrap();
        assert_eq!(
            cgroupfs.cgroup("a-b", QosClass::BestEffort),
            "/kubepods/besteffort/poda-b"
        );
        assert_eq!(
            cgroupfs.cgroup("a-b", QosClass::Guaranteed),
            "/kubepods/poda-b"
        );
    }

    #[test]
    fn a_kubelet_may_have_a_root_of_its_own() {
        let nested = found(&["kubelet.slice/kubelet-kubepods.slice"]).unwrap();
        assert_eq!(
            nested.cgroup("x", QosClass::Guaranteed),
            "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-podx.slice"
        );
        assert_eq!(
            found(&["kubelet/kubepods"])
                .unwrap()
                .cgroup("x", QosClass::Guaranteed),
            "/kubelet/kubepods/podx"
        );
        assert_eq!(found(&["system.slice", "mykubepods"]), None);
    }
}
