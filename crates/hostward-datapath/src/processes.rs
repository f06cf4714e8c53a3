//! Processes: the programs that note who uses a socket, and the numbers of the executables that rules name.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::Path;

use hostward_abi as abi;
use hostward_abi::process;
use hostward_abi::stride;

use crate::error::Result;
use crate::error::invalid;
use crate::error::kernel;
use crate::error::libbpf;
use crate::ffi;
use crate::tables::Datapath;

/// The program that looks at every open file.
const SCAN: &str = "hw_scan";

impl Datapath {
    /// Notes the process of every socket below a cgroup from now on, and of those that are there already by who holds
    /// them. What is pinned already stays as it is.
    ///
    /// # Errors
    /// The verifier refuses, the cgroup is not of version 2, or bpffs refuses.
    pub fn watch_processes(&self, object: &Path, cgroup: &Path) -> Result<()> {
        let directory = self.pins.join("processes");
        let root = fs::File::open(cgroup).map_err(kernel("open", cgroup.display()))?;
        let loaded = self.maps.object_for_port(object)?.load().map_err(libbpf("load", object.display()))?;
        fs::create_dir_all(&directory).map_err(kernel("create", directory.display()))?;
        let mut attached = Vec::new();
        let mut scan = None;
        for program in loaded.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            if name == SCAN {
                scan = Some(program);
                continue;
            }
            let path = directory.join(&name);
            if path.exists() {
                // The program of this release, without a moment in which none is attached.
                let link = ffi::open_pinned(&path).map_err(kernel("open", path.display()))?;
                ffi::update_link(link.as_fd(), program.as_fd()).map_err(kernel("replace", path.display()))?;
                continue;
            }
            let kind = program.attach_type() as libbpf_sys::bpf_attach_type;
            let link = ffi::attach_cgroup(program.as_fd(), root.as_fd(), kind).map_err(kernel("attach", &name))?;
            attached.push((path, link));
        }
        // Pinned only behind the scan: who starts again half-way scans again.
        if let Some(scan) = scan.filter(|_| !attached.is_empty()) {
            ffi::run_iterator(scan.as_fd()).map_err(kernel("run", SCAN))?;
        }
        for (path, link) in attached {
            ffi::pin(link.as_fd(), &path).map_err(kernel("pin", path.display()))?;
        }
        Ok(())
    }

    /// Gives an endpoint's executables their numbers; an executable of 0 takes a number out of use.
    ///
    /// # Errors
    /// A number lies beyond what an endpoint may have.
    pub fn write_executables(&self, slot: u32, executables: &[(u8, u64)]) -> Result<()> {
        for &(number, executable) in executables {
            if u32::from(number) < process::PROCESS_FIRST {
                return Err(invalid(number, "no executable may have this number"));
            }
            let index = slot * stride::PROCESSES_PER_ENDPOINT + u32::from(number);
            if let Some(old) = self.maps.read::<_, u64>("hw_executables", &index)?
                && old != 0
                && old != executable
            {
                self.maps.remove("hw_processes", &process_key(slot, old))?;
            }
            self.maps.write("hw_executables", &index, &executable)?;
            if executable != 0 {
                self.maps.write("hw_processes", &process_key(slot, executable), &number)?;
            }
        }
        Ok(())
    }

    /// The executables that have a number at an endpoint.
    ///
    /// # Errors
    /// The slot is beyond the capacity.
    pub fn read_executables(&self, slot: u32) -> Result<Vec<(u8, u64)>> {
        let first = slot * stride::PROCESSES_PER_ENDPOINT;
        let held = self.maps.read_array::<u64>("hw_executables", first, stride::PROCESSES_PER_ENDPOINT)?;
        Ok((0..=u8::MAX).zip(held).filter(|&(_, executable)| executable != 0).collect())
    }
}

fn process_key(slot: u32, executable: u64) -> abi::ProcessKey {
    abi::ProcessKey { executable, slot, padding: 0 }
}
