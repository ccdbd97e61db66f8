//! Finds the entities: every file of `src/entities` is one, and its struct has the file's name in camel case.
//!
//! Out: a module for each file, each table's place, and the list of all tables. So a new entity takes one file.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let directory =
        Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo says where")).join("src/entities");
    println!("cargo::rerun-if-changed={}", directory.display());
    let mut files: Vec<String> = fs::read_dir(&directory)
        .expect("the directory of entities is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(".rs").map(str::to_owned))
        .filter(|name| name != "mod")
        .collect();
    files.sort();
    let mut text = String::new();
    let mut tables = Vec::new();
    for (index, file) in files.iter().enumerate() {
        let path = directory.join(format!("{file}.rs"));
        let entity = camel(file);
        writeln!(text, "#[path = {path:?}]\nmod {file};\npub use {file}::*;").expect("writing to a text");
        writeln!(text, "impl Numbered for {entity} {{ const INDEX: usize = {index}; }}")
            .expect("writing to a text");
        tables.push(format!("<{entity} as crate::define::Entity>::definition()"));
    }
    writeln!(text, "fn found() -> Vec<&'static crate::define::Table> {{ vec![{}] }}", tables.join(", "))
        .expect("writing to a text");
    let out = Path::new(&env::var("OUT_DIR").expect("cargo says where")).join("entities.rs");
    fs::write(out, text).expect("the directory for generated files can be written");
}

fn camel(snake: &str) -> String {
    let word = |word: &str| word[..1].to_uppercase() + &word[1..];
    snake.split('_').map(word).collect()
}
