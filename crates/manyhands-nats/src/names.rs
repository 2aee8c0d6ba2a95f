//! What streams, consumers and subjects are called, with the hash of the build in them.
//!
//! A name is made from parts that were checked before, so a name that exists is a name that the
//! server takes; and a name that was read gives back the parts it was made from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::str::FromStr;

/// The name of a pool: 1 to [`Pool::LONGEST`] of `a-z 0-9 - _`.
///
/// Stricter than the server, whose names may not hold a dot, a star, `>`, a space or a slash: a
/// pool's name also stands in files and metrics, and two pools never differ only in case.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Pool(String);

/// Why a text is no name of a pool.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// There is no letter in it.
    #[error("the name of a pool is empty")]
    Empty,
    /// It has more letters than [`Pool::LONGEST`].
    #[error("the name of a pool has {letters} letters, more than {longest}")]
    TooLong {
        /// How many it has.
        letters: usize,
        /// [`Pool::LONGEST`].
        longest: usize,
    },
    /// It has a letter other than `a-z 0-9 - _`.
    #[error("`{letter}` cannot stand in the name of a pool")]
    BadLetter {
        /// The first such letter.
        letter: char,
    },
}

impl Pool {
    /// The most letters a name may have.
    pub const LONGEST: usize = 32;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the stream that holds this pool's tasks.
    ///
    /// ```
    /// let pool: manyhands_nats::names::Pool = "thumbs".parse()?;
    /// assert_eq!(pool.stream(), "P_thumbs");
    /// # Ok::<(), manyhands_nats::names::PoolError>(())
    /// ```
    #[must_use]
    pub fn stream(&self) -> String {
        format!("P_{}", self.0)
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let letters = text.chars().count();
        if letters == 0 {
            return Err(PoolError::Empty);
        }
        if letters > Self::LONGEST {
            return Err(PoolError::TooLong {
                letters,
                longest: Self::LONGEST,
            });
        }
        let allowed = |letter: char| {
            letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-' || letter == '_'
        };
        match text.chars().find(|letter| !allowed(*letter)) {
            Some(letter) => Err(PoolError::BadLetter { letter }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for Pool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The hash of a build; written as 16 digits of `0-9 a-f`.
///
/// It tells builds apart that were made by mistake, not by an enemy: who may publish on a pool's
/// subjects is for the server to decide.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Build(u64);

/// Why a text is no hash of a build: it is not 16 digits of `0-9 a-f`.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{text}` is no build: not 16 digits of 0-9 a-f")]
pub struct BuildError {
    /// What was read.
    pub text: String,
}

/// The running program's own file, also after it was replaced or removed.
const THIS_PROGRAM: &str = "/proc/self/exe";

impl Build {
    /// The hash with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of the hash.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The hash of the running program's file, all of it read once.
    ///
    /// # Errors
    ///
    /// That of the operating system, when the file cannot be read.
    pub fn of_this_program() -> io::Result<Self> {
        Self::of_bytes(File::open(THIS_PROGRAM)?)
    }

    /// The hash of all that `source` holds (FNV-1a).
    ///
    /// # Errors
    ///
    /// That of `source`.
    pub fn of_bytes(mut source: impl Read) -> io::Result<Self> {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let length = match source.read(&mut buffer) {
                Ok(0) => return Ok(Self(hash)),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            for byte in &buffer[..length] {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        }
    }

    /// The name of the consumer through which workers of this build take tasks.
    ///
    /// ```
    /// use manyhands_nats::names::Build;
    ///
    /// assert_eq!(Build::from_bits(0xc0ffee).consumer(), "w_0000000000c0ffee");
    /// ```
    #[must_use]
    pub fn consumer(self) -> String {
        format!("w_{self}")
    }
}

impl FromStr for Build {
    type Err = BuildError;

    fn from_str(text: &str) -> Result<Self, BuildError> {
        let digits = text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let bits = (text.len() == 16 && digits).then(|| u64::from_str_radix(text, 16).ok());
        bits.flatten().map(Self).ok_or_else(|| BuildError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Build {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// What a subject carries.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum Kind {
    /// Tasks, kept in the pool's stream until a worker has done them.
    Task,
    /// Questions to supervisors: who holds this task, end it, drain.
    Control,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Task, Self::Control];

    const fn word(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Control => "control",
        }
    }
}

/// The subject of a pool's messages for one build: `p.<pool>.<build>.<kind>`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Subject {
    /// The pool.
    pub pool: Pool,
    /// The build that can run what is sent there.
    pub build: Build,
    /// What is sent there.
    pub kind: Kind,
}

/// Why a text is no subject of ours.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// It is not four words with dots between, the first of which is `p`.
    #[error("`{text}` is not of the form p.<pool>.<build>.<kind>")]
    OtherForm {
        /// What was read.
        text: String,
    },
    /// Its second word is no name of a pool.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// Its third word is no build.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Its last word is no kind of message.
    #[error("`{word}` is no kind of message")]
    UnknownKind {
        /// The last word.
        word: String,
    },
}

impl FromStr for Subject {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, SubjectError> {
        let words: Vec<&str> = text.splitn(5, '.').collect();
        let [p, pool, build, word] = words[..] else {
            return Err(SubjectError::OtherForm {
                text: text.to_owned(),
            });
        };
        if p != "p" {
            return Err(SubjectError::OtherForm {
                text: text.to_owned(),
            });
        }
        let (pool, build) = (pool.parse()?, build.parse()?);
        match Kind::ALL.into_iter().find(|kind| kind.word() == word) {
            Some(kind) => Ok(Self { pool, build, kind }),
            None => Err(SubjectError::UnknownKind {
                word: word.to_owned(),
            }),
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "p.{}.{}.{}",
            self.pool,
            self.build,
            self.kind.word()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_that_the_server_or_a_file_system_would_misread_are_refused() {
        for letter in ['.', '*', '>', ' ', '/', 'A', '\0', '\u{e9}'] {
            let refused = format!("thumbs{letter}").parse::<Pool>();
            assert_eq!(refused, Err(PoolError::BadLetter { letter }));
        }
        assert_eq!("".parse::<Pool>(), Err(PoolError::Empty));
        let long = "x".repeat(Pool::LONGEST);
        assert!(long.parse::<Pool>().is_ok());
        let letters = Pool::LONGEST + 1;
        let longest = Pool::LONGEST;
        let refused = format!("{long}x").parse::<Pool>();
        assert_eq!(refused, Err(PoolError::TooLong { letters, longest }));
    }

    #[test]
    fn build_is_read_only_in_the_one_form_it_is_written_in() {
        for text in [
            "",
            "c0ffee",
            "0000000000C0FFEE",
            "+000000000c0ffee",
            "00000000000c0ffee",
        ] {
            assert!(text.parse::<Build>().is_err(), "{text}");
        }
        assert_eq!("0000000000c0ffee".parse(), Ok(Build::from_bits(0xc0ffee)));
    }

    #[test]
    fn build_is_the_hash_of_the_bytes() {
        assert_eq!(
            Build::of_bytes(&b""[..]).unwrap().to_string(),
            "cbf29ce484222325"
        );
        assert_eq!(
            Build::of_bytes(&b"a"[..]).unwrap().to_string(),
            "af63dc4c8601ec8c"
        );
        let program = Build::of_this_program().unwrap();
        assert_eq!(program, Build::of_this_program().unwrap());
        let other = Build::of_bytes(File::open(THIS_PROGRAM).unwrap().take(100)).unwrap();
        assert_ne!(program, other);
    }

    #[test]
    fn subject_of_another_form_says_what_is_wrong_with_it() {
        let error = |text: &str| text.parse::<Subject>().unwrap_err().to_string();
        assert_eq!(
            error("p.a.b"),
            "`p.a.b` is not of the form p.<pool>.<build>.<kind>"
        );
        assert_eq!(error("q.a.0000000000c0ffee.task").find("q.a"), Some(1));
        assert_eq!(
            error("p.A.0000000000c0ffee.task"),
            "`A` cannot stand in the name of a pool"
        );
        assert_eq!(
            error("p.a.b.task"),
            "`b` is no build: not 16 digits of 0-9 a-f"
        );
        assert_eq!(error("p.a.0000000000c0ffee.x"), "`x` is no kind of message");
        assert_eq!(error("p.a.0000000000c0ffee.task.x").find("p.a"), Some(1));
    }

    proptest! {
        #[test]
        fn subject_is_read_back_as_it_was_written(
            pool in "[a-z0-9_-]{1,32}",
            bits in any::<u64>(),
            control in any::<bool>(),
        ) {
            let kind = if control { Kind::Control } else { Kind::Task };
            let subject = Subject { pool: pool.parse().unwrap(), build: Build::from_bits(bits), kind };
            prop_assert_eq!(subject.to_string().parse::<Subject>(), Ok(subject));
        }

        #[test]
        fn any_text_is_refused_or_is_exactly_what_would_be_written(text in ".{0,80}") {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.to_string(), text);
            }
        }
    }
}
