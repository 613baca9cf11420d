//! Instructions of the pure rooms' hot paths: counted, not timed, so that a busy machine counts the same.

pub mod callgrind;
pub mod network_paths;
pub mod record;
pub mod registry_paths;

/// One hot path: its name in the record, and a program that goes along it so many times.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Room, a dot, what is done.
    pub name: &'static str,
    /// Prepares, then goes along the path so many times and checks what came of it. What is prepared must not depend
    /// on the number: the count is the difference of two runs.
    pub go: fn(u64),
    /// Between two lengths whose difference is counted. Enough that what happens rarely is in it.
    pub times: u64,
}

/// Every path, in the order in which they are counted and printed.
pub fn paths() -> impl Iterator<Item = Path> {
    network_paths::PATHS.into_iter().chain(registry_paths::PATHS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a path checks holds; the counting itself needs valgrind and belongs to the program.
    #[test]
    fn every_path_can_be_gone_and_has_a_name_of_its_own() {
        let mut names: Vec<_> = paths().map(|path| path.name).collect();
        for path in paths() {
            (path.go)(3);
            assert!(path.times >= 100, "{} is gone too seldom", path.name);
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), paths().count());
    }
}
