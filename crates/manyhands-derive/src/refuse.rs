//! What cannot lie in memory that several processes map, and what to use instead.
//!
//! The bounds of the implementation would refuse all of it too, in the words of the compiler; this
//! says it in ours. It goes by the names in the source, so a type under another name is left to the
//! bounds.

use syn::{
    Error, Fields, GenericArgument, Generics, Path, PathArguments, PathSegment, Result, Type,
};

/// Why something is refused, and the replacement.
struct Refusal {
    what: String,
    why: &'static str,
    instead: &'static str,
}

/// Refuses fields by the names of their types; all faults at once.
pub(crate) fn fields(fields: &Fields) -> Result<()> {
    let mut faults: Option<Error> = None;
    for (index, field) in fields.iter().enumerate() {
        let name = match &field.ident {
            Some(name) => format!("`{name}`"),
            None => format!("{index}"),
        };
        if let Some((place, Refusal { what, why, instead })) = find(&field.ty) {
            let text = format!(
                "field {name} cannot live in shared memory: {what} {why}; use {instead} instead"
            );
            let fault = Error::new_spanned(place, text);
            match &mut faults {
                Some(faults) => faults.combine(fault),
                None => faults = Some(fault),
            }
        }
    }
    faults.map_or(Ok(()), Err)
}

/// Refuses lifetime parameters: whoever has one borrows.
pub(crate) fn lifetimes(generics: &Generics) -> Result<()> {
    match generics.lifetimes().next() {
        None => Ok(()),
        Some(lifetime) => Err(Error::new_spanned(
            lifetime,
            "a type that borrows cannot derive Shareable: a reference means nothing in another \
             process; own the data",
        )),
    }
}

/// The first thing in a type that is refused, with the place where it stands.
fn find(of: &Type) -> Option<(&Type, Refusal)> {
    let refuse = |what: &str, why, instead| {
        Some((
            of,
            Refusal {
                what: what.into(),
                why,
                instead,
            },
        ))
    };
    match of {
        Type::Reference(_) => refuse(
            "a reference",
            "is an address, which means nothing in another process",
            "the value itself",
        ),
        Type::Ptr(_) => refuse(
            "a raw pointer",
            "is an address, which means nothing in another process",
            "an offset or an index (`u64`)",
        ),
        Type::BareFn(_) => refuse(
            "a function pointer",
            "is an address, which means nothing in another process",
            "a number that stands for the function",
        ),
        Type::TraitObject(_) => refuse(
            "a trait object",
            "has a pointer to code, which means nothing in another process",
            "a struct with a field for each case",
        ),
        Type::Array(array) => find(&array.elem),
        Type::Slice(slice) => find(&slice.elem),
        Type::Group(group) => find(&group.elem),
        Type::Paren(paren) => find(&paren.elem),
        Type::Tuple(tuple) => tuple.elems.iter().find_map(find),
        Type::Path(path) => match by_name(&path.path) {
            Some(refusal) => Some((of, refusal)),
            None => path.path.segments.last().and_then(in_arguments),
        },
        _ => None,
    }
}

fn in_arguments(segment: &PathSegment) -> Option<(&Type, Refusal)> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments.args.iter().find_map(|argument| match argument {
        GenericArgument::Type(of) => find(of),
        _ => None,
    })
}

fn by_name(path: &Path) -> Option<Refusal> {
    let name = path.segments.last()?.ident.to_string();
    let (why, instead) = match name.as_str() {
        "Box" | "NonNull" | "AtomicPtr" | "Cow" => (
            "points into the memory of one process",
            "the value itself, or an index",
        ),
        "Vec" | "VecDeque" | "BinaryHeap" | "LinkedList" => (
            "points into the heap of one process",
            "`ShmVec<T, N>`, or a `Shared<[T]>` sent along with the value,",
        ),
        "String" | "PathBuf" | "OsString" | "CString" => {
            ("points into the heap of one process", "`ShmString<N>`")
        }
        "HashMap" | "HashSet" | "BTreeMap" | "BTreeSet" => (
            "points into the heap of one process",
            "an array, or a dictionary of a `Manager`,",
        ),
        "Rc" | "Arc" | "Weak" => (
            "counts its owners in one process and points into its heap",
            "the value itself, or a `Shared<T>` sent along with the value,",
        ),
        "Cell" | "RefCell" | "UnsafeCell" | "OnceCell" | "LazyCell" => (
            "is changed without other threads and processes knowing of it",
            "an atomic, or `Lock<T>`,",
        ),
        "Mutex" => (
            "works within one process only, and stays locked when its holder is killed",
            "`manyhands_sync::Lock<T>`",
        ),
        "Condvar" | "OnceLock" | "LazyLock" => (
            "works within one process only",
            "`manyhands_sync::Event` or `Lock<T>`",
        ),
        // Ours have the same names.
        "Once" if is_foreign(path) => ("works within one process only", "`manyhands_sync::Once`"),
        "RwLock" if is_foreign(path) => (
            "works within one process only, and stays locked when its holder is killed",
            "`manyhands_sync::Lock<T>`",
        ),
        "Region" | "Shared" | "Block" => (
            "stands for a hold of one process",
            "its contents, or send it along with the value,",
        ),
        "File" | "OwnedFd" | "TcpStream" | "UnixStream" => (
            "has a descriptor, which means nothing in another process",
            "a message on a channel",
        ),
        _ => return None,
    };
    Some(Refusal {
        what: format!("`{name}`"),
        why,
        instead,
    })
}

fn is_foreign(path: &Path) -> bool {
    let first = path.segments.first();
    first.is_some_and(|first| {
        ["std", "parking_lot"]
            .iter()
            .any(|name| first.ident == name)
    })
}
