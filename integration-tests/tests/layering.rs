//! Which crate may depend on which: services never import each other, they talk through `proto/`.
//! Only the launcher in `cli/` imports them all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layer {
    Proto,
    Shared,
    Service,
    Cli,
    Tests,
}

fn layer(root: &Path, manifest: &Path) -> Layer {
    let relative = manifest.strip_prefix(root).expect("a member lies in the workspace");
    let mut parts = relative.components().map(|c| c.as_os_str().to_str().expect("UTF-8"));
    match parts.next() {
        Some("proto") => Layer::Proto,
        Some("shared") => Layer::Shared,
        Some("services") => Layer::Service,
        Some("cli") => Layer::Cli,
        Some("integration-tests" | "fuzz") => Layer::Tests,
        other => panic!("{other:?} is not a folder that the architecture knows: add its layer here"),
    }
}

fn may_depend(from: Layer, on: Layer) -> bool {
    match from {
        Layer::Proto => false,
        // `proto/` and each other.
        Layer::Shared | Layer::Service => matches!(on, Layer::Proto | Layer::Shared),
        Layer::Cli => matches!(on, Layer::Proto | Layer::Shared | Layer::Service),
        // They start real binaries, and link none of the services.
        Layer::Tests => matches!(on, Layer::Proto | Layer::Shared),
    }
}

#[test]
fn crates_depend_only_on_what_their_layer_may() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo metadata runs");
    assert!(
        output.status.success(),
        "cargo metadata: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let text = |v: &serde_json::Value| v.as_str().expect("a string").to_owned();
    let root = text(&metadata["workspace_root"]);
    let packages = metadata["packages"].as_array().expect("packages");
    let layers: BTreeMap<String, Layer> = packages
        .iter()
        .map(|p| {
            (
                text(&p["name"]),
                layer(Path::new(&root), Path::new(&text(&p["manifest_path"]))),
            )
        })
        .collect();
    assert!(layers.len() > 20, "the workspace has its crates: {layers:?}");

    let mut wrong = BTreeSet::new();
    for package in packages {
        let name = text(&package["name"]);
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = text(&dependency["name"]);
            let (Some(&from), Some(&to)) = (layers.get(&name), layers.get(&on)) else {
                continue;
            };
            if name != on && !may_depend(from, to) {
                wrong.insert(format!("{name} ({from:?}) must not depend on {on} ({to:?})"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_rules_forbid_what_they_should() {
    assert!(!may_depend(Layer::Service, Layer::Service));
    assert!(!may_depend(Layer::Shared, Layer::Service));
    assert!(!may_depend(Layer::Service, Layer::Cli));
    assert!(may_depend(Layer::Cli, Layer::Service));
}
