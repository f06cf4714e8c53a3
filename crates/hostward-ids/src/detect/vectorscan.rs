//! Vectorscan, the multi-pattern matcher, through the few functions of its C interface (`hs/hs.h`) that are needed.
//!
//! This is the crate's only unsafe code. A [`Database`] is immutable and shared; a [`Scratch`] belongs to one thread.

#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt::Write as _;
use std::ptr::{self, NonNull};

/// Most hits of one scan; what comes after is not looked for.
pub const HITS: usize = 8192;

const SUCCESS: c_int = 0;
const SCAN_TERMINATED: c_int = -3;
const MODE_BLOCK: c_uint = 1;
const FLAG_CASELESS: c_uint = 1;
const FLAG_SINGLE_MATCH: c_uint = 8;

#[repr(C)]
struct RawDatabase {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawScratch {
    _opaque: [u8; 0],
}

#[repr(C)]
struct RawCompileError {
    message: *mut c_char,
    expression: c_int,
}

type OnMatch = extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;

unsafe extern "C" {
    fn hs_compile_lit_multi(
        expressions: *const *const c_char,
        flags: *const c_uint,
        ids: *const c_uint,
        lengths: *const usize,
        elements: c_uint,
        mode: c_uint,
        platform: *const c_void,
        database: *mut *mut RawDatabase,
        error: *mut *mut RawCompileError,
    ) -> c_int;
    fn hs_compile_multi(
        expressions: *const *const c_char,
        flags: *const c_uint,
        ids: *const c_uint,
        elements: c_uint,
        mode: c_uint,
        platform: *const c_void,
        database: *mut *mut RawDatabase,
        error: *mut *mut RawCompileError,
    ) -> c_int;
    fn hs_free_compile_error(error: *mut RawCompileError) -> c_int;
    fn hs_free_database(database: *mut RawDatabase) -> c_int;
    fn hs_serialize_database(database: *const RawDatabase, bytes: *mut *mut c_char, length: *mut usize) -> c_int;
    fn hs_deserialize_database(bytes: *const c_char, length: usize, database: *mut *mut RawDatabase) -> c_int;
    fn hs_alloc_scratch(database: *const RawDatabase, scratch: *mut *mut RawScratch) -> c_int;
    fn hs_free_scratch(scratch: *mut RawScratch) -> c_int;
    fn hs_scan(
        database: *const RawDatabase,
        data: *const c_char,
        length: c_uint,
        flags: c_uint,
        scratch: *mut RawScratch,
        on_match: OnMatch,
        context: *mut c_void,
    ) -> c_int;
    fn hs_version() -> *const c_char;
    fn hs_valid_platform() -> c_int;
    fn free(memory: *mut c_void);
}

/// What the library did not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Patterns that it cannot compile, in its words.
    #[error("the multi-pattern matcher refuses the patterns: {0}")]
    Compile(String),
    /// Anything else, by its number (`hs_common.h`).
    #[error("the multi-pattern matcher failed with {0}")]
    Library(i32),
}

/// One literal to be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Literal<'a> {
    /// Its bytes.
    pub bytes: &'a [u8],
    /// ASCII letters of either case.
    pub nocase: bool,
}

/// Many literals, compiled. A hit's number is a literal's position.
#[derive(Debug)]
pub struct Database(NonNull<RawDatabase>);

// SAFETY: the library never writes to a database after it was made (hs_runtime.h: "shared between threads").
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: the pointer came from the library and is freed once.
        unsafe { hs_free_database(self.0.as_ptr()) };
    }
}

/// The library's version, part of a cached database's key.
#[must_use]
pub fn version() -> String {
    // SAFETY: hs_version returns a static string that a NUL ends.
    unsafe { CStr::from_ptr(hs_version()) }.to_string_lossy().into_owned()
}

impl Database {
    /// Compiles literals, of which there must be some and none may be empty.
    ///
    /// # Errors
    /// What the library says.
    pub fn compile(literals: &[Literal<'_>]) -> Result<Self, Error> {
        // The interface for literals takes one that begins with a NUL for an empty one: then all become expressions.
        let escaped: Vec<CString> = if literals.iter().any(|literal| literal.bytes.first() == Some(&0)) {
            literals.iter().map(escape).collect()
        } else {
            Vec::new()
        };
        let expressions: Vec<*const c_char> = if escaped.is_empty() {
            literals.iter().map(|literal| literal.bytes.as_ptr().cast()).collect()
        } else {
            escaped.iter().map(|expression| expression.as_ptr()).collect()
        };
        let lengths: Vec<usize> = literals.iter().map(|literal| literal.bytes.len()).collect();
        let flags: Vec<c_uint> =
            literals.iter().map(|literal| FLAG_SINGLE_MATCH | if literal.nocase { FLAG_CASELESS } else { 0 }).collect();
        let elements = c_uint::try_from(literals.len()).map_err(|_| Error::Compile("too many".into()))?;
        let ids: Vec<c_uint> = (0..elements).collect();
        let mut database = ptr::null_mut();
        let mut error: *mut RawCompileError = ptr::null_mut();
        // SAFETY: all arrays have `elements` entries and live until the call returns; each expression has its length, or
        // is a string that a NUL ends.
        let status = unsafe {
            if hs_valid_platform() != SUCCESS {
                return Err(Error::Compile("this processor is not supported".into()));
            }
            if escaped.is_empty() {
                hs_compile_lit_multi(
                    expressions.as_ptr(),
                    flags.as_ptr(),
                    ids.as_ptr(),
                    lengths.as_ptr(),
                    elements,
                    MODE_BLOCK,
                    ptr::null(),
                    &raw mut database,
                    &raw mut error,
                )
            } else {
                hs_compile_multi(
                    expressions.as_ptr(),
                    flags.as_ptr(),
                    ids.as_ptr(),
                    elements,
                    MODE_BLOCK,
                    ptr::null(),
                    &raw mut database,
                    &raw mut error,
                )
            }
        };
        if status != SUCCESS {
            let message = match NonNull::new(error) {
                // SAFETY: on failure the library gives an error with a NUL-ended message, which is freed here once.
                Some(error) => unsafe {
                    let message = CStr::from_ptr(error.as_ref().message).to_string_lossy().into_owned();
                    hs_free_compile_error(error.as_ptr());
                    message
                },
                None => status.to_string(),
            };
            return Err(Error::Compile(message));
        }
        NonNull::new(database).map(Self).ok_or(Error::Library(status))
    }

    /// Its bytes, for a cache on this kind of machine and this version.
    ///
    /// # Errors
    /// What the library says.
    pub fn serialize(&self) -> Result<Vec<u8>, Error> {
        let mut bytes: *mut c_char = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the database is valid; on success the library gives `length` bytes from malloc, copied and freed here.
        unsafe {
            let status = hs_serialize_database(self.0.as_ptr(), &raw mut bytes, &raw mut length);
            if status != SUCCESS || bytes.is_null() {
                return Err(Error::Library(status));
            }
            let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), length).to_vec();
            free(bytes.cast());
            Ok(copy)
        }
    }

    /// From what [`Self::serialize`] gave. The library checks little: the caller has to know that the bytes are what was
    /// written, by a digest.
    ///
    /// # Errors
    /// What the library says: another version, another processor.
    pub fn deserialize(bytes: &[u8]) -> Result<Self, Error> {
        let mut database = ptr::null_mut();
        // SAFETY: pointer and length are those of a slice.
        let status = unsafe { hs_deserialize_database(bytes.as_ptr().cast(), bytes.len(), &raw mut database) };
        match NonNull::new(database) {
            Some(database) if status == SUCCESS => Ok(Self(database)),
            _ => Err(Error::Library(status)),
        }
    }

    /// Adds the literals that are in `data` to `hits`; false if there were more than [`HITS`] or the library failed.
    pub fn scan(&self, data: &[u8], scratch: &mut Scratch, hits: &mut Vec<u32>) -> bool {
        let Some(memory) = scratch.0 else { return false };
        let Ok(length) = c_uint::try_from(data.len()) else { return false };
        hits.reserve(HITS.saturating_sub(hits.len()).min(64));
        // SAFETY: the scratch was allocated for this database (see Scratch::fit) and is borrowed exclusively; `hits`
        // outlives the call, which is the only time on_match runs.
        let status = unsafe {
            hs_scan(
                self.0.as_ptr(),
                data.as_ptr().cast(),
                length,
                0,
                memory.as_ptr(),
                on_match,
                ptr::from_mut(hits).cast(),
            )
        };
        debug_assert!(status == SUCCESS || status == SCAN_TERMINATED, "scan: {status}");
        status == SUCCESS
    }
}

/// A literal as an expression that matches it and nothing else.
fn escape(literal: &Literal<'_>) -> CString {
    let text: String = literal.bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "\\x{byte:02x}");
        text
    });
    CString::new(text).unwrap_or_default()
}

extern "C" fn on_match(id: c_uint, _: c_ulonglong, _: c_ulonglong, _: c_uint, context: *mut c_void) -> c_int {
    // SAFETY: `context` is the Vec that Database::scan lent for this call.
    let hits = unsafe { &mut *context.cast::<Vec<u32>>() };
    if hits.len() >= HITS {
        return 1;
    }
    hits.push(id);
    0
}

/// Room for scans of one thread.
#[derive(Debug, Default)]
pub struct Scratch(Option<NonNull<RawScratch>>);

// SAFETY: scratch space is tied to no thread, only to one scan at a time, which `&mut` sees to.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Makes it large enough for a database as well.
    ///
    /// # Errors
    /// What the library says.
    pub fn fit(&mut self, database: &Database) -> Result<(), Error> {
        let mut scratch = self.0.map_or(ptr::null_mut(), NonNull::as_ptr);
        // SAFETY: `scratch` is null or came from this function; the library frees or enlarges it and gives the new one.
        let status = unsafe { hs_alloc_scratch(database.0.as_ptr(), &raw mut scratch) };
        self.0 = NonNull::new(scratch);
        if status == SUCCESS { Ok(()) } else { Err(Error::Library(status)) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Some(scratch) = self.0.take() {
            // SAFETY: the pointer came from the library and is freed once.
            unsafe { hs_free_scratch(scratch.as_ptr()) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_may_begin_with_zero() {
        let literals = [Literal { bytes: b"\0\0", nocase: false }, Literal { bytes: b"aB.", nocase: true }];
        let database = Database::compile(&literals).unwrap();
        let mut scratch = Scratch::default();
        scratch.fit(&database).unwrap();
        let mut hits = Vec::new();
        assert!(database.scan(b"xAb.x\0\0", &mut scratch, &mut hits));
        hits.sort_unstable();
        assert_eq!(hits, [0, 1]);
    }

    #[test]
    fn literals_are_found_also_after_serialisation() {
        let literals = [
            Literal { bytes: b"abc", nocase: false },
            Literal { bytes: b"x\0y", nocase: false },
            Literal { bytes: b"hello", nocase: true },
            Literal { bytes: b".*", nocase: false },
        ];
        let database = Database::compile(&literals).unwrap();
        let again = Database::deserialize(&database.serialize().unwrap()).unwrap();
        for database in [&database, &again] {
            let mut scratch = Scratch::default();
            scratch.fit(database).unwrap();
            let mut hits = Vec::new();
            assert!(database.scan(b"..abcabc HeLLo x\0y", &mut scratch, &mut hits));
            hits.sort_unstable();
            assert_eq!(hits, [0, 1, 2]);
        }
        assert!(Database::deserialize(b"nonsense").is_err());
    }
}
