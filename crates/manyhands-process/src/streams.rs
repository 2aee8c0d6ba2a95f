//! The standard streams of a child.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use manyhands_os::OsError;
use manyhands_os::descriptor::seqpacket_pair;

use crate::settings::Source;

/// Where a standard stream of a process comes from, or goes to.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Stdio {
    /// That of the parent.
    #[default]
    Inherit,
    /// Nothing comes, and what is written is thrown away.
    Null,
    /// A pipe, whose other end the parent takes from the [`Process`](crate::Process).
    ///
    /// Nobody else has that end, so a reader comes to the end when the process, and what it has
    /// started, have ended. A pipe holds 64 KiB: who writes more waits for the reader.
    Captured,
    /// A file, socket or pipe of the parent; see [`Stdio::to`].
    Given(Arc<OwnedFd>),
}

impl Stdio {
    /// A file, socket or pipe; each process that is started so has its own descriptor of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    ///
    /// use manyhands_process::{Process, Stdio};
    ///
    /// let (mut reader, writer) = std::io::pipe()?;
    /// let builder = Process::builder().stdout(Stdio::to(writer));
    /// builder.spawn(|| println!("a line"), ())?.join()?;
    /// drop(builder);
    /// let mut text = String::new();
    /// reader.read_to_string(&mut text)?;
    /// assert_eq!(text, "a line\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn to(descriptor: impl Into<OwnedFd>) -> Self {
        Self::Given(Arc::new(descriptor.into()))
    }
}

/// The parent's ends of captured streams.
#[derive(Debug, Default)]
pub(crate) struct Ends {
    pub(crate) input: Option<PipeWriter>,
    pub(crate) output: Option<PipeReader>,
    pub(crate) error: Option<PipeReader>,
    /// Where the events of its logs come from.
    pub(crate) logs: Option<OwnedFd>,
}

/// One child's ends, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Streams {
    pub(crate) sources: [Source; 3],
    /// What is to be sent, in the order in which [`Source::Given`] takes it.
    pub(crate) given: Vec<Arc<OwnedFd>>,
}

impl Streams {
    /// Makes the pipes for one child.
    pub(crate) fn open(stdio: &[Stdio; 3]) -> Result<(Self, Ends), OsError> {
        let mut ends = Ends::default();
        let mut streams = Self {
            sources: [Source::Parent; 3],
            given: Vec::new(),
        };
        for (number, stdio) in stdio.iter().enumerate() {
            let given = match stdio {
                Stdio::Inherit => continue,
                Stdio::Null => {
                    streams.sources[number] = Source::Null;
                    continue;
                }
                Stdio::Captured => Arc::new(captured(number, &mut ends)?),
                Stdio::Given(descriptor) => Arc::clone(descriptor),
            };
            streams.sources[number] = Source::Given;
            streams.given.push(given);
        }
        Ok((streams, ends))
    }

    /// Adds a socket for the events of the child's logs, behind the streams.
    pub(crate) fn add_logs(&mut self, ends: &mut Ends) -> Result<(), OsError> {
        let (ours, theirs) = seqpacket_pair()?;
        ends.logs = Some(ours);
        self.given.push(Arc::new(theirs));
        Ok(())
    }
}

/// The child's end of a new pipe for the stream of this number.
fn captured(number: usize, ends: &mut Ends) -> Result<OwnedFd, OsError> {
    let (reader, writer) = io::pipe().map_err(|e| OsError::new("pipe2", e))?;
    Ok(match number {
        0 => {
            ends.input = Some(writer);
            reader.into()
        }
        1 => {
            ends.output = Some(reader);
            writer.into()
        }
        _ => {
            ends.error = Some(reader);
            writer.into()
        }
    })
}
