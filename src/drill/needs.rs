//! Whether this machine has what a plan needs: asked before anything is started.

use std::{env, path::Path};

use super::plan::{DrillPlan, Need};
use crate::error::CommandError;

/// Looks for what the plan needs.
///
/// # Errors
/// [`CommandError::Usage`] with everything that is missing.
pub fn check(plan: &DrillPlan) -> Result<(), CommandError> {
    let mut missing = Vec::new();
    for need in [Need::Network, Need::Disks].into_iter().filter(|need| plan.needs(*need)) {
        let programs = need.programs().iter().filter(|program| !is_there(program));
        let mut lacks: Vec<String> = programs.map(|program| format!("{program} is not installed")).collect();
        if !rustix::process::geteuid().is_root() {
            lacks.insert(0, "you are not root".to_owned());
        }
        if !lacks.is_empty() {
            missing.push(format!("this plan needs {}: {}", need.in_words(), lacks.join(", ")));
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(CommandError::Usage(missing.join("; "))) }
}

/// Whether a program is found where the system looks for programs, or where root's are.
fn is_there(program: &str) -> bool {
    let paths = env::var_os("PATH").unwrap_or_default();
    let beside = ["/usr/sbin", "/sbin"].map(Into::into);
    env::split_paths(&paths).chain(beside).any(|directory| Path::new(&directory).join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_where_they_are() {
        assert!(is_there("sh") && !is_there("no-such-program"));
    }

    #[test]
    fn what_needs_nothing_is_possible_everywhere() {
        let plan: DrillPlan = "at 1s: kill leader for 1s".parse().unwrap();
        assert!(check(&plan).is_ok());
    }
}
