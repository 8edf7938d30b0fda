//! Finds the programs of the examples, and builds them if necessary.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Returns a command for an example. `cargo test` has built the example next to this test.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().expect("this program has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/PROFILE/deps/TEST");
    let path = profile.join("examples").join(name);
    if is_older_than_its_source(&path, name) {
        build_all(profile);
    }
    Command::new(path)
}

/// Whether the program is missing or was built before the last change of its source. An outdated
/// program would be tested in place of the current one.
fn is_older_than_its_source(program: &Path, name: &str) -> bool {
    let Ok(built) = program.metadata().and_then(|program| program.modified()) else {
        return true;
    };
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let examples = crate_root.join("examples");
    let mut sources = vec![
        crate_root.join("src"),
        examples.join(name),
        examples.join(name).with_extension("rs"),
    ];
    while let Some(source) = sources.pop() {
        if let Ok(entries) = source.read_dir() {
            sources.extend(entries.flatten().map(|entry| entry.path()));
        } else if source.extension() == Some(OsStr::new("rs"))
            && source
                .metadata()
                .and_then(|source| source.modified())
                .is_ok_and(|changed| changed > built)
        {
            return true;
        }
    }
    false
}

/// Builds the examples, because `cargo test --test fork` does not.
fn build_all(profile: &Path) {
    let name_of = |path: &Path| path.file_name().and_then(OsStr::to_str).map(str::to_owned);
    let name = name_of(profile).filter(|name| name != "debug");
    let parent = profile.parent().expect("target/PROFILE");
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--examples", "--profile"])
        .arg(name.as_deref().unwrap_or("dev"))
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // `cargo test --target TRIPLE` has built the test in target/TRIPLE/PROFILE.
    match name_of(parent).filter(|name| name.contains("-linux-")) {
        Some(triple) => {
            let target = parent.parent().expect("target/TRIPLE");
            build
                .args(["--target", &triple, "--target-dir"])
                .arg(target)
        }
        None => build.arg("--target-dir").arg(parent),
    };
    let built = build.status();
    assert!(
        built.is_ok_and(|status| status.success()),
        "no examples: run `cargo build --examples` first"
    );
}
