//! Generates `abi.rs` from the BTF of the compiled datapath object.
//!
//! The object is compiled by `make build` before Cargo runs; `HOSTWARD_BPF_OBJECT` names another one. Only structures and
//! enumerations that are members of `struct hw_abi` are taken.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use libbpf_rs::HasSize as _;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::BtfKind;
use libbpf_rs::btf::BtfType;
use libbpf_rs::btf::types::Array;
use libbpf_rs::btf::types::Enum;
use libbpf_rs::btf::types::Int;
use libbpf_rs::btf::types::MemberAttr;
use libbpf_rs::btf::types::Struct;

fn main() {
    let object = env::var_os("HOSTWARD_BPF_OBJECT").map_or_else(
        || PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap()).join("../../src/hostward/bpf/endpoint.bpf.o"),
        PathBuf::from,
    );
    println!("cargo:rerun-if-env-changed=HOSTWARD_BPF_OBJECT");
    println!("cargo:rerun-if-changed={}", object.display());
    println!("cargo:rustc-env=HOSTWARD_ABI_OBJECT={}", object.display());
    assert!(object.exists(), "{} is missing: run `make bpf` first", object.display());
    let btf = Btf::from_path(&object).expect("the datapath object carries no BTF");
    let mut out = String::new();
    let abi = btf.type_by_name::<Struct<'_>>("hw_abi").expect("endpoint.bpf.c declares struct hw_abi");
    for member in abi.iter() {
        let ty = btf.type_by_id::<BtfType<'_>>(member.ty).expect("the member's type is in the BTF");
        let name = ty.name().and_then(|name| name.to_str()).expect("members of hw_abi have named types").to_owned();
        match ty.kind() {
            BtfKind::Struct => write_structure(&mut out, &btf, &name, &Struct::try_from(ty).expect("kind was checked")),
            BtfKind::Enum => write_enumeration(&mut out, &name, &Enum::try_from(ty).expect("kind was checked")),
            kind => panic!("{name}: {kind:?} has no place in struct hw_abi"),
        }
    }
    let path = PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("abi.rs");
    fs::write(&path, out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// `hw_flow_key` becomes `FlowKey`.
fn rust_name(name: &str) -> String {
    name.trim_start_matches("hw_").split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

fn write_structure(out: &mut String, btf: &Btf<'_>, name: &str, structure: &Struct<'_>) {
    let rust = rust_name(name);
    writeln!(out, "/// `struct {name}` of `bpf/abi.h`; {} bytes.", structure.size()).unwrap();
    writeln!(out, "#[repr(C)]").unwrap();
    writeln!(out, "#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, PartialEq)]").unwrap();
    writeln!(out, "pub struct {rust} {{").unwrap();
    let mut offsets = Vec::new();
    for member in structure.iter() {
        let field = member.name.and_then(|name| name.to_str()).expect("every member has a name");
        let MemberAttr::Normal { offset } = member.attr else {
            panic!("{name}.{field} is a bit-field: bpf/abi.h forbids them");
        };
        let ty = btf.type_by_id::<BtfType<'_>>(member.ty).expect("the member's type is in the BTF");
        writeln!(out, "    /// Offset {}.", offset / 8).unwrap();
        writeln!(out, "    pub {field}: {},", rust_type(ty)).unwrap();
        offsets.push((field.to_owned(), offset / 8));
    }
    writeln!(out, "}}\n").unwrap();
    // The compiler proves what the generator assumed: size and every offset.
    writeln!(out, "const _: () = {{").unwrap();
    writeln!(out, "    assert!(::core::mem::size_of::<{rust}>() == {});", structure.size()).unwrap();
    for (field, offset) in offsets {
        writeln!(out, "    assert!(::core::mem::offset_of!({rust}, {field}) == {offset});").unwrap();
    }
    writeln!(out, "}};\n").unwrap();
}

fn rust_type(ty: BtfType<'_>) -> String {
    let ty = ty.skip_mods_and_typedefs();
    match ty.kind() {
        BtfKind::Int => {
            let int = Int::try_from(ty).expect("kind was checked");
            format!("u{}", int.bits)
        }
        BtfKind::Array => {
            let array = Array::try_from(ty).expect("kind was checked");
            format!("[{}; {}]", rust_type(array.contained_type()), array.capacity())
        }
        BtfKind::Struct => rust_name(ty.name().and_then(|name| name.to_str()).expect("structures have names")),
        kind => panic!("{kind:?} has no place in bpf/abi.h"),
    }
}

fn write_enumeration(out: &mut String, name: &str, enumeration: &Enum<'_>) {
    writeln!(out, "/// `enum {name}` of `bpf/abi.h`: values and names.").unwrap();
    writeln!(out, "pub mod {} {{", name.trim_start_matches("hw_")).unwrap();
    let mut names = String::new();
    for member in enumeration.iter() {
        let member_name = member.name.and_then(|name| name.to_str()).expect("enumerators have names");
        let short = member_name.trim_start_matches("HW_");
        writeln!(out, "    /// `{member_name}`.").unwrap();
        writeln!(out, "    pub const {short}: u32 = {};", member.value).unwrap();
        write!(names, "({}, \"{short}\"), ", member.value).unwrap();
    }
    writeln!(out, "    /// Every value with its name.").unwrap();
    writeln!(out, "    pub const NAMES: &[(u32, &str)] = &[{}];", names.trim_end_matches(", ")).unwrap();
    writeln!(out, "}}\n").unwrap();
}
