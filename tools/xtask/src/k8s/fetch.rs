//! `cargo xtask k8s fetch`: finds the programs, or gets them.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::{go, packages, programs};
use crate::cache;
use programs::Program;

/// Names a directory that has some of them already, as tests of Kubernetes operators do.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// Gets all and prints where they are.
pub fn main() -> Result<()> {
    for program in Program::ALL {
        println!("{} {}", program.name(), get(program)?.display());
    }
    Ok(())
}

/// Where a program is; gets it if it is nowhere.
pub fn get(program: Program) -> Result<PathBuf> {
    let cache = cache::dir("k8s")?.join(programs::KUBERNETES);
    let assets = env::var_os(ASSETS).map(PathBuf::from);
    if let Some(found) = find(program, assets.as_deref(), &cache) {
        return Ok(found);
    }
    std::fs::create_dir_all(&cache)
        .with_context(|| format!("cannot create {}", cache.display()))?;
    let place = cache.join(program.cached_name());
    // Of these the packages are as good, and there at once.
    let (first, second): (Way, Way) = match program {
        Program::Helm4 | Program::Promtool => (packages::fetch, go::build),
        _ => (go::build, packages::fetch),
    };
    if let Err(error) = first(program, &place) {
        eprintln!("{}: {error:#}; trying elsewhere", program.name());
        second(program, &place)?;
    }
    Ok(place)
}

type Way = fn(Program, &Path) -> Result<()>;

fn find(program: Program, assets: Option<&Path>, cache: &Path) -> Option<PathBuf> {
    let theirs = assets.map(|directory| directory.join(program.name()));
    let ours = cache.join(program.cached_name());
    theirs.into_iter().chain([ours]).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::{Program, find};
    use std::fs;

    #[test]
    fn assets_come_before_the_cache() {
        let assets = tempfile::tempdir().unwrap();
        let cache = tempfile::tempdir().unwrap();
        let find = |program| find(program, Some(assets.path()), cache.path());
        assert_eq!(find(Program::Helm4), None);
        let ours = cache.path().join(Program::Helm4.cached_name());
        fs::write(&ours, "").unwrap();
        assert_eq!(find(Program::Helm4), Some(ours));
        let theirs = assets.path().join("helm4");
        fs::write(&theirs, "").unwrap();
        assert_eq!(find(Program::Helm4), Some(theirs));
    }
}
