//! The files of code in this process, and where a function lies in them.
//!
//! A function is named to another process of the same binary by its place: the module that holds
//! it (the program itself, or a shared library by its path), the offset from the module's load
//! base, which differs from run to run, and a hash of the code there, so that another build is
//! told before anything of it runs.
//!
//! The base comes from the dynamic loader's own list of modules. No symbol serves as an anchor:
//! the compiler copies functions between code generation units.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::{error, fmt, ptr, slice};

use crate::reload;

/// The place of a function, the same in each process that runs this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The module: zero for the program itself, else a hash of the library's path.
    pub module: u64,
    /// The distance from the module's load base, in bytes.
    pub offset: u64,
    /// A hash of the code at the place and of the length of the module's code.
    pub hash: u64,
}

/// Why a place has no function in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlaceError {
    /// The module is not loaded.
    ModuleMissing {
        /// The hash of its path.
        module: u64,
    },
    /// The module has no code at this offset.
    NoCode {
        /// The offset asked for.
        offset: u64,
    },
    /// The code there is of another build.
    OtherBuild {
        /// The hash of the code here.
        found: u64,
        /// The hash asked for.
        expected: u64,
    },
}

impl fmt::Display for PlaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModuleMissing { module } => write!(f, "module {module:#x} is not loaded"),
            Self::NoCode { offset } => write!(f, "no code at offset {offset:#x}"),
            Self::OtherBuild { found, expected } => {
                write!(
                    f,
                    "code of another build: hash {found:#x}, expected {expected:#x}"
                )
            }
        }
    }
}

impl error::Error for PlaceError {}

/// The code hashed at a place, in bytes.
const HASHED: usize = 32;

/// One module as the loader lists it, with the code segment that was asked for.
#[derive(Clone, Debug)]
struct Module {
    /// Empty for the program itself.
    path: PathBuf,
    base: usize,
    /// The executable segments, as address ranges.
    code: Vec<(usize, usize)>,
    /// The dynamic section, zero when there is none.
    dynamic: usize,
}

impl Module {
    fn id(&self) -> u64 {
        module_id(&self.path)
    }

    fn is_program(&self) -> bool {
        self.path.as_os_str().is_empty()
    }

    /// A library that was loaded by a relative path is called by that path for ever, also when the
    /// working directory is another. The kernel knows the whole path.
    fn with_absolute_path(mut self) -> Self {
        let is_relative = self.path.is_relative() && self.path.components().count() > 1;
        if is_relative
            && let Some(path) = self
                .code
                .first()
                .and_then(|(start, _)| reload::mapped_at(*start))
        {
            self.path = PathBuf::from(path);
        }
        self
    }

    fn segment_of(&self, address: usize) -> Option<(usize, usize)> {
        self.code
            .iter()
            .copied()
            .find(|(start, end)| (*start..*end).contains(&address))
    }

    /// Hashes the code at an address of this module, `None` where it has no code.
    fn hash_at(&self, address: usize) -> Option<u64> {
        let (start, end) = self.segment_of(address)?;
        let len = HASHED.min(end - address);
        // SAFETY: reads `len` bytes.
        // - where: inside one executable segment of a module that the loader lists; modules with
        //   code of ours are never unloaded, and linkers make code readable.
        // - who: nobody writes code.
        // - what: any bytes are valid.
        let code = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance(address), len) };
        Some(fnv(fnv(FNV_START, code), &(end - start).to_le_bytes()))
    }
}

/// The place of the function that starts at `address`; `None` when no module holds it.
///
/// # Examples
///
/// ```
/// use manyhands_os::image::{address_of, place_of};
///
/// fn answer() -> u32 { 42 }
/// let address = answer as fn() -> u32 as *const ();
/// let place = place_of(address).expect("this program holds it");
/// assert_eq!(place.module, 0);
/// assert_eq!(address_of(place), Ok(address));
/// ```
pub fn place_of(address: *const ()) -> Option<Place> {
    let address = address.addr();
    let place = |module: &Module| {
        Some(Place {
            module: module.id(),
            offset: address.wrapping_sub(module.base) as u64,
            hash: module.hash_at(address)?,
        })
    };
    if let Some(place) = program().and_then(place) {
        return Some(place);
    }
    find(|module| module.segment_of(address).is_some()).and_then(|module| place(&module))
}

/// The address of the function at a place.
///
/// # Errors
///
/// When its module is not loaded here, or holds other code there.
pub fn address_of(place: Place) -> Result<*const (), PlaceError> {
    if place.module == 0
        && let Some(module) = program()
    {
        return address_in(module, place);
    }
    let module = find(|module| module.id() == place.module).ok_or(PlaceError::ModuleMissing {
        module: place.module,
    })?;
    address_in(&module, place)
}

fn address_in(module: &Module, place: Place) -> Result<*const (), PlaceError> {
    let no_code = PlaceError::NoCode {
        offset: place.offset,
    };
    let offset = usize::try_from(place.offset).map_err(|_| no_code)?;
    let address = module.base.wrapping_add(offset);
    let found = module.hash_at(address).ok_or(no_code)?;
    if found != place.hash {
        return Err(PlaceError::OtherBuild {
            found,
            expected: place.hash,
        });
    }
    Ok(ptr::with_exposed_provenance(address))
}

/// The path of the shared library that holds `address`; `None` for the program itself.
pub fn library_of(address: *const ()) -> Option<PathBuf> {
    let module = find(|module| module.segment_of(address.addr()).is_some())?;
    (!module.is_program()).then_some(module.path)
}

/// Whether the shared library at a path is loaded.
pub fn is_loaded(path: &Path) -> bool {
    find(|module| module.path == path).is_some()
}

/// Why [`load`] failed: the loader's own words.
#[derive(Debug)]
pub struct LoadError {
    /// What the loader said.
    pub message: String,
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dlopen: {}", self.message)
    }
}

impl error::Error for LoadError {}

/// Loads a shared library for good; its constructors run.
///
/// # Errors
///
/// When the loader refuses.
pub fn load(path: &Path) -> Result<(), LoadError> {
    let said = |message: &str| LoadError {
        message: message.to_owned(),
    };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| said("zero byte in path"))?;
    // SAFETY: `path` is a string that ends in zero; the library's constructors are the program's
    // own business, as they are when the loader runs them at the start.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NODELETE) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: `dlerror` has no precondition.
    let message = unsafe { libc::dlerror() };
    if message.is_null() {
        return Err(said("no reason given"));
    }
    // SAFETY: a string of the loader, valid until this thread's next call of it.
    let message = unsafe { CStr::from_ptr(message) };
    Err(said(&message.to_string_lossy()))
}

/// A constructor, as C libraries call them.
pub type Constructor = extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Runs the constructors that the loader would run after `own`, in `own`'s module: for a
/// constructor that never returns.
///
/// # Safety
///
/// Must be called from `own`, at the module's start, with the arguments that it was given; `own`
/// must not return afterwards, or the constructors would run twice.
pub unsafe fn run_later_constructors(
    own: Constructor,
    count: c_int,
    arguments: *const *const c_char,
    environment: *const *const c_char,
) {
    let address = own as *const ();
    let Some(module) = find(|module| module.segment_of(address.addr()).is_some()) else {
        return;
    };
    let Some((array, len)) = constructors(&module) else {
        return;
    };
    let at = |index: usize| -> usize {
        let entry = ptr::with_exposed_provenance::<usize>(array).wrapping_add(index);
        // SAFETY: `index < len`, and the loader's dynamic section says that the array has `len`
        // entries; it is mapped and relocated before constructors run, and never changes again.
        unsafe { entry.read() }
    };
    let Some(own_index) = (0..len).find(|index| at(*index) == address.addr()) else {
        return;
    };
    for index in own_index + 1..len {
        let entry = at(index);
        // Zero and minus one are fillers.
        if entry == 0 || entry == usize::MAX {
            continue;
        }
        // SAFETY: an entry of the constructors' array is a function of this type by the ABI.
        let constructor: Constructor =
            unsafe { std::mem::transmute(ptr::with_exposed_provenance::<()>(entry)) };
        constructor(count, arguments, environment);
    }
}

/// An entry of the dynamic section, as ELF lays it out.
#[repr(C)]
struct Dynamic {
    tag: usize,
    value: usize,
}

const DT_INIT_ARRAY: usize = 25;
const DT_INIT_ARRAY_SIZE: usize = 27;

/// The address and length of a module's array of constructors.
fn constructors(module: &Module) -> Option<(usize, usize)> {
    let mut entry = ptr::with_exposed_provenance::<Dynamic>(module.dynamic);
    if entry.is_null() {
        return None;
    }
    let (mut address, mut bytes) = (None, None);
    loop {
        // SAFETY: the section is mapped as the program header says, and ends in a zero tag, at
        // which the loop stops.
        let dynamic = unsafe { entry.read() };
        match dynamic.tag {
            0 => break,
            DT_INIT_ARRAY => address = Some(module.base.wrapping_add(dynamic.value)),
            DT_INIT_ARRAY_SIZE => bytes = Some(dynamic.value),
            _ => {}
        }
        entry = entry.wrapping_add(1);
    }
    Some((address?, bytes? / size_of::<usize>()))
}

/// The program itself, which never moves: looked up once.
fn program() -> Option<&'static Module> {
    static PROGRAM: OnceLock<Option<Module>> = OnceLock::new();
    PROGRAM.get_or_init(|| find(Module::is_program)).as_ref()
}

/// The first loaded module that passes a test; the program itself comes first.
fn find(wanted: impl Fn(&Module) -> bool) -> Option<Module> {
    let mut search = Search {
        wanted: &wanted,
        found: None,
        is_first: true,
    };
    // SAFETY: `visit` has the type that the call asks for, and gets `search`, which outlives the
    // call, as its last argument.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut search).cast::<c_void>()) };
    search.found
}

struct Search<'a> {
    wanted: &'a dyn Fn(&Module) -> bool,
    found: Option<Module>,
    is_first: bool,
}

/// Called by the loader for each module; anything but zero ends the walk.
unsafe extern "C" fn visit(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    search: *mut c_void,
) -> c_int {
    // SAFETY: `find` passes its `Search`, and nobody else has it during the walk.
    let search = unsafe { &mut *search.cast::<Search<'_>>() };
    // SAFETY: the loader gives a record that is valid during this call.
    let info = unsafe { &*info };
    let is_program = std::mem::take(&mut search.is_first);
    // SAFETY: the loader holds the list of modules locked during the walk, so the record is of a
    // module that stays mapped.
    let module = unsafe { read_module(info, is_program) }.with_absolute_path();
    if (search.wanted)(&module) {
        search.found = Some(module);
        return 1;
    }
    0
}

/// Reads one of the loader's records.
///
/// # Safety
///
/// The record must be the loader's, of a module that is mapped during the call.
unsafe fn read_module(info: &libc::dl_phdr_info, is_program: bool) -> Module {
    let path = if is_program || info.dlpi_name.is_null() {
        PathBuf::new()
    } else {
        // SAFETY: the loader's name of the module, a string that ends in zero.
        let name = unsafe { CStr::from_ptr(info.dlpi_name) };
        PathBuf::from(OsStr::from_bytes(name.to_bytes()))
    };
    let mut module = Module {
        path,
        base: info.dlpi_addr as usize,
        code: Vec::new(),
        dynamic: 0,
    };
    // SAFETY: the record names an array of `dlpi_phnum` headers, mapped with the module.
    let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
    for header in headers {
        let start = module.base.wrapping_add(header.p_vaddr as usize);
        if header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_X != 0 {
            module
                .code
                .push((start, start.saturating_add(header.p_memsz as usize)));
        } else if header.p_type == libc::PT_DYNAMIC {
            module.dynamic = start;
        }
    }
    module
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// The hash FNV-1a with 64 bits, gone on with.
fn fnv(start: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(start, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn module_id(path: &Path) -> u64 {
    match path.as_os_str().as_bytes() {
        [] => 0,
        // The lowest bit keeps zero for the program.
        bytes => fnv(FNV_START, bytes) | 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> u32 {
        1
    }

    #[test]
    fn place_leads_back_to_its_function() {
        let address = one as fn() -> u32 as *const ();
        let place = place_of(address).expect("a function of this program");
        assert_eq!(place.module, 0);
        assert_eq!(address_of(place), Ok(address));
        assert_eq!(library_of(address), None);
    }

    #[test]
    fn place_in_a_library_is_found_by_its_path() {
        let address = libc::malloc as *const ();
        let place = place_of(address).expect("a function of the C library");
        if place.module == 0 {
            return; // A static program has no libraries.
        }
        assert_eq!(address_of(place), Ok(address));
        let path = library_of(address).expect("a path");
        assert!(is_loaded(&path));
        load(&path).expect("it is there");
    }

    #[test]
    fn wrong_places_are_errors() {
        let place = place_of(one as fn() -> u32 as *const ()).expect("a place");
        let other = Place {
            hash: place.hash ^ 1,
            ..place
        };
        assert!(matches!(
            address_of(other),
            Err(PlaceError::OtherBuild { .. })
        ));
        let outside = Place {
            offset: u64::MAX / 2,
            ..place
        };
        assert!(matches!(
            address_of(outside),
            Err(PlaceError::NoCode { .. })
        ));
        let missing = Place { module: 7, ..place };
        assert_eq!(
            address_of(missing),
            Err(PlaceError::ModuleMissing { module: 7 })
        );
        assert_eq!(place_of(ptr::without_provenance(16)), None);
        assert!(load(Path::new("/no/such/library.so")).is_err());
    }
}
