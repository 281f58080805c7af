//! Compiles every contract under `mox/` without needing `protoc`.

use std::path::{Path, PathBuf};

fn protos(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            protos(&path, found)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            found.push(path);
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=mox");
    let mut found = Vec::new();
    protos(Path::new("mox"), &mut found)?;
    found.sort();
    let descriptors = protox::compile(&found, ["."])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
