//! Tidiness that no lint sees: file headers, file sizes, words that do not belong here, licences of dependencies.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A file of more lines has outgrown one room.
const LINES_MAX: usize = 1200;

/// Licences that the project may link (any one of a dependency's alternatives is enough).
const LICENCES: [&str; 12] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "MPL-2.0",
    "MPL-2.0+",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "CC0-1.0",
    "0BSD",
];

/// Runs every check and lists all findings.
pub(crate) fn run(top: &Path) -> Result<(), String> {
    let mut findings = Vec::new();
    for file in tracked(top)? {
        if file.ends_with(".rs") && !file.contains("/vectors/") {
            let text = fs::read_to_string(top.join(&file)).unwrap_or_default();
            check_source(&file, &text, &mut findings);
        }
    }
    check_licences(top, &mut findings)?;
    if findings.is_empty() {
        Ok(())
    } else {
        Err(format!("{} findings:\n{}", findings.len(), findings.join("\n")))
    }
}

fn tracked(top: &Path) -> Result<Vec<String>, String> {
    let listing = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(top)
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    Ok(String::from_utf8_lossy(&listing.stdout).lines().map(str::to_owned).collect())
}

fn check_source(file: &str, text: &str, findings: &mut Vec<String>) {
    if text.is_empty() {
        return; // deleted but still in the index
    }
    if !text.starts_with("//!") {
        findings.push(format!("{file}: begins without saying what room it is (`//! …`)"));
    }
    let lines = text.lines().count();
    if lines > LINES_MAX {
        findings.push(format!("{file}: {lines} lines; make it two files"));
    }
    for (number, line) in text.lines().enumerate() {
        let mark = ["todo!(", "unimplemented!("].iter().any(|mark| line.contains(mark));
        if mark && !file.starts_with("xtask/") {
            findings.push(format!("{file}:{}: unfinished: {}", number + 1, line.trim()));
        }
    }
}

fn check_licences(top: &Path, findings: &mut Vec<String>) -> Result<(), String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program)
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--filter-platform",
            "x86_64-unknown-linux-gnu",
        ])
        .current_dir(top)
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("cargo metadata: {error}: {}", String::from_utf8_lossy(&output.stderr)))?;
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let licence = package["license"].as_str().unwrap_or("none");
        if !is_permitted(licence) {
            findings.push(format!("{} {}: licence {licence}", package["name"], package["version"]));
        }
    }
    Ok(())
}

/// SPDX expressions are flat enough in practice: every AND part needs one permitted OR alternative.
fn is_permitted(expression: &str) -> bool {
    let alternatives = expression.replace('/', " OR ").replace(['(', ')'], " ");
    alternatives.split(" AND ").all(|part| {
        part.split(" OR ").any(|licence| {
            let licence = licence.split(" WITH ").next().unwrap_or(licence).trim();
            LICENCES.contains(&licence)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_read_as_expressions() {
        for good in [
            "MIT",
            "MIT OR Apache-2.0",
            "MIT/Apache-2.0",
            "(MIT OR GPL-3.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
        ] {
            assert!(is_permitted(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "none", "LGPL-2.1 OR GPL-2.0"] {
            assert!(!is_permitted(bad), "{bad}");
        }
    }

    #[test]
    fn a_file_without_a_header_is_found() {
        let mut findings = Vec::new();
        check_source("crates/x/src/lib.rs", "fn main() {}\n", &mut findings);
        assert_eq!(findings.len(), 1);
    }
}
