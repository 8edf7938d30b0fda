//! Where the examples are, as programs.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// An example, which `cargo test` has built beside this test.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("this program has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(name);
    if !path.exists() {
        build_all(profile);
    }
    Command::new(path)
}

/// Builds the examples where nobody has: `cargo test --test fork` does not.
fn build_all(profile: &Path) {
    let name = profile.file_name().and_then(OsStr::to_str);
    let built = Command::new(env!("CARGO"))
        .args(["build", "--examples", "--profile"])
        .arg(name.map_or("dev", |name| if name == "debug" { "dev" } else { name }))
        .arg("--target-dir")
        .arg(profile.parent().expect("target/PROFILE"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "no examples: run `cargo build --examples` first"
    );
}
