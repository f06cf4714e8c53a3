//! Links Vectorscan (Debian's `libvectorscan-dev`, library `hs`), which the multi-pattern matcher calls.

fn main() {
    println!("cargo:rustc-link-lib=hs");
    println!("cargo:rerun-if-changed=build.rs");
}
