//! Tells the program which commit it was built from, for its reports.

use std::process::Command;

fn main() {
    // With the sources, so that the mark of a changed tree is as fresh as the build. A path that does not
    // exist is left out: it would make every build a new one.
    for path in
        ["../.git/HEAD", "../.git/logs/HEAD", "../ring", "../protocol", "../registry", "../runtime", "."]
    {
        if std::path::Path::new(path).exists() {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    println!("cargo::rustc-env=CROUPIER_COMMIT={}", commit().unwrap_or_default());
}

/// The commit, with a plus when tracked files differ from it; none outside a repository.
fn commit() -> Option<String> {
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let is_changed =
        git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|text| !text.is_empty());
    Some(if is_changed { commit + "+" } else { commit })
}

fn git(arguments: &[&str]) -> Option<String> {
    let output =
        Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
