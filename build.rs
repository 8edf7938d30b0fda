//! Nothing is built here. `links` in `Cargo.toml`, which requires a build script, lets a program
//! contain one version of this crate only: two versions would not know of each other's locks when a
//! process forks.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
}
