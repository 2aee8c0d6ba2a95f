//! Values that cannot be encoded or decoded, on either side of the border.

use manyhands_executor::{Executor, SubmitError, TaskError};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::support::{pool, result, works};

/// Goes out and never comes in.
#[derive(Debug, PartialEq, Serialize)]
struct OneWay(u32);

impl<'de> Deserialize<'de> for OneWay {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        Err(D::Error::custom("no way in"))
    }
}

#[test]
fn what_cannot_be_decoded_is_a_typed_error_on_either_side() {
    let pool = pool(1);
    let there = pool.submit(|_: OneWay| 1, (OneWay(1),)).unwrap();
    let here = pool.submit(|| OneWay(2), ()).unwrap();
    assert!(matches!(result(&there), Err(TaskError::Undecodable { .. })));
    assert!(matches!(result(&here), Err(TaskError::Undecodable { .. })));
    works(&pool);
    assert_eq!(pool.stats().restarts, 0);
}

/// Panics on the way in, and, if it says so, on the way out.
#[derive(Debug, PartialEq)]
struct Explosive {
    on_the_way_out: bool,
}

impl Serialize for Explosive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        assert!(!self.on_the_way_out, "bang");
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Explosive {
    fn deserialize<D: Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
        panic!("bang")
    }
}

#[test]
fn codec_that_panics_is_a_typed_error_on_either_side() {
    let pool = pool(1);
    let submitted = pool.submit(
        |_: Explosive| 1,
        (Explosive {
            on_the_way_out: true,
        },),
    );
    assert!(
        matches!(submitted, Err(SubmitError::Unencodable { reason }) if reason.contains("bang"))
    );
    let there = pool
        .submit(
            |_: Explosive| 1,
            (Explosive {
                on_the_way_out: false,
            },),
        )
        .unwrap();
    assert!(matches!(result(&there), Err(TaskError::Panicked(panic)) if panic.message == "bang"));
    let leaves = pool
        .submit(
            || Explosive {
                on_the_way_out: true,
            },
            (),
        )
        .unwrap();
    assert!(matches!(result(&leaves), Err(TaskError::Panicked(panic)) if panic.message == "bang"));
    let here = pool
        .submit(
            || Explosive {
                on_the_way_out: false,
            },
            (),
        )
        .unwrap();
    assert!(
        matches!(result(&here), Err(TaskError::Undecodable { reason }) if reason.contains("bang"))
    );
    works(&pool);
    assert_eq!(pool.stats().restarts, 0);
}
