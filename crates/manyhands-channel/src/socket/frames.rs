//! Lengths and what follows them, out of bytes that come in pieces.

use std::io::{self, ErrorKind, Read};

use super::descriptors::{Passed, Source};
use super::error::RecvError;

/// How the length of a frame is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// CPython's: 4 bytes, or -1 in them and 8 bytes more.
    Python,
    /// A record of a sealed session: 2 bytes.
    Record,
}

/// What comes.
#[derive(Debug)]
pub(super) enum Frame {
    /// The bytes of a frame.
    Bytes(Vec<u8>),
    /// Descriptors between two frames, and the byte that they came with.
    Passed(Passed, u8),
}

/// Before the first byte of a frame, more than one may be there.
const AHEAD: usize = 8 << 10;

/// Collects frames. What has come of one is kept between calls.
#[derive(Debug)]
pub(super) struct Frames {
    head: Head,
    most: u64,
    /// Whether no more is read than is missing of a frame. So it is before the other end is known:
    /// descriptors are then closed by the system, and what follows is left to who knows it.
    is_exact: bool,
    /// Read, and not yet looked at.
    ahead: Vec<u8>,
    /// What came with the last byte of `ahead`. It goes with that byte.
    passed: Option<Passed>,
    /// The bytes of the length that have come.
    length: Vec<u8>,
    /// The body, and its whole length, once that is known.
    body: Option<(Vec<u8>, usize)>,
}

impl Frames {
    /// Those of a stranger.
    pub(super) fn new(head: Head, most: u64) -> Self {
        Self {
            head,
            most,
            is_exact: true,
            ahead: Vec::new(),
            passed: None,
            length: Vec::new(),
            body: None,
        }
    }

    /// The other end is known; its frames are of another kind.
    pub(super) fn change(&mut self, head: Head, most: u64) {
        (self.head, self.most, self.is_exact) = (head, most, false);
    }

    /// Whether something was read that is no part of a frame that was returned.
    pub(super) fn is_begun(&self) -> bool {
        !self.ahead.is_empty() || !self.length.is_empty() || self.body.is_some()
    }

    /// Whether something was read that nobody has looked at yet.
    pub(super) fn has_unseen(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The bytes of memory that it has.
    #[cfg(feature = "fuzz")]
    pub(super) fn held(&self) -> usize {
        let body = self.body.as_ref().map_or(0, |(body, _)| body.capacity());
        self.ahead.capacity() + self.length.capacity() + body
    }

    /// The next frame; `None` when more has to come.
    pub(super) fn next(&mut self, source: &mut impl Source) -> Result<Option<Frame>, RecvError> {
        loop {
            if let Some((body, len)) = &mut self.body {
                let missing = *len - body.len();
                if missing == 0 {
                    let body = std::mem::take(body);
                    (self.body, self.length) = (None, Vec::new());
                    return Ok(Some(Frame::Bytes(body)));
                }
                let there = missing.min(self.ahead.len());
                body.extend(self.ahead.drain(..there));
                if self.ahead.is_empty() {
                    // It came with a byte of this frame, and closes.
                    self.passed = None;
                }
                let missing = (missing - there) as u64;
                // It grows with what comes, whatever was announced.
                match source.by_ref().take(missing).read_to_end(body) {
                    Ok(more) if more as u64 == missing => {}
                    Ok(_) => return Err(RecvError::Cut),
                    Err(refused) => match why(refused)? {
                        Some(_) => return Err(RecvError::Cut),
                        None => return Ok(None),
                    },
                }
            } else if let Some(passed) = self.between() {
                return Ok(Some(passed));
            } else if let Some(len) = self.announced()? {
                self.body = Some((Vec::new(), len));
            } else {
                match self.read(source)? {
                    Some(0) if self.length.is_empty() => return Err(RecvError::Closed),
                    Some(0) => return Err(RecvError::Cut),
                    Some(_) => {}
                    None => return Ok(None),
                }
            }
        }
    }

    /// Reads ahead, or what is missing of a length; `None` when nothing is there.
    fn read(&mut self, source: &mut impl Source) -> Result<Option<usize>, RecvError> {
        let mut piece = [0; AHEAD];
        let outcome = match self.is_exact {
            true => {
                let missing = self.missing();
                source.read(&mut piece[..missing]).map(|len| (len, None))
            }
            false => source.read_passed(&mut piece),
        };
        let (len, passed) = match outcome {
            Ok(read) => read,
            Err(refused) => return why(refused),
        };
        self.ahead.extend_from_slice(&piece[..len]);
        self.passed = passed.filter(|_| len > 0);
        Ok(Some(len))
    }

    /// Descriptors that come before the next frame.
    fn between(&mut self) -> Option<Frame> {
        match self.ahead[..] {
            [mark] if self.length.is_empty() => {
                let passed = self.passed.take()?;
                self.ahead.clear();
                Some(Frame::Passed(passed, mark))
            }
            _ => None,
        }
    }

    /// How many bytes a length lacks.
    fn missing(&self) -> usize {
        let there = self.length.len() + self.ahead.len();
        match self.head {
            Head::Record => 2_usize.saturating_sub(there),
            Head::Python if there < 4 => 4 - there,
            Head::Python => 12_usize.saturating_sub(there),
        }
    }

    /// Whether the first `count` bytes of a frame have come; they are then in `length`.
    fn take(&mut self, count: usize) -> bool {
        let missing = count.saturating_sub(self.length.len());
        let there = missing.min(self.ahead.len());
        self.length.extend(self.ahead.drain(..there));
        if self.ahead.is_empty() {
            // It came with a byte of this length, and closes.
            self.passed = None;
        }
        there == missing
    }

    /// The length of the frame that begins, once all bytes of it have come.
    fn announced(&mut self) -> Result<Option<usize>, RecvError> {
        let len = match self.head {
            Head::Record => {
                if !self.take(2) {
                    return Ok(None);
                }
                u64::from(u16::from_be_bytes([self.length[0], self.length[1]]))
            }
            Head::Python => {
                if !self.take(4) {
                    return Ok(None);
                }
                let short = self.length.first_chunk().copied().unwrap_or_default();
                match i32::from_be_bytes(short) {
                    -1 if !self.take(12) => return Ok(None),
                    -1 => {
                        let long = self.length.last_chunk().copied().unwrap_or_default();
                        u64::from_be_bytes(long)
                    }
                    // CPython takes other negative lengths for none.
                    len => u64::try_from(len).map_err(|_| RecvError::Corrupt)?,
                }
            }
        };
        let most = self.most;
        match usize::try_from(len) {
            Ok(fits) if len <= most => Ok(Some(fits)),
            _ => Err(RecvError::TooLong { len, most }),
        }
    }
}

/// The length of a message as CPython writes it.
pub(super) fn python_head(len: usize) -> Vec<u8> {
    match i32::try_from(len) {
        Ok(len) => len.to_be_bytes().to_vec(),
        Err(_) => [&(-1_i32).to_be_bytes()[..], &(len as u64).to_be_bytes()].concat(),
    }
}

/// What a refusal to read means: nothing is there yet, or ever again, or something is wrong.
fn why(refused: io::Error) -> Result<Option<usize>, RecvError> {
    match refused.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(None),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ok(Some(0)),
        _ => Err(RecvError::Os(refused)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in pieces, with nothing in between.
    struct Pieces {
        bytes: Vec<u8>,
        sizes: Vec<usize>,
        is_pause: bool,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_pause = !self.is_pause;
            if self.is_pause && !self.bytes.is_empty() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let size = self.sizes.pop().unwrap_or(7).max(1);
            let size = size.min(buffer.len()).min(self.bytes.len());
            buffer[..size].copy_from_slice(&self.bytes[..size]);
            self.bytes.drain(..size);
            Ok(size)
        }
    }

    impl Source for Pieces {}

    fn all(frames: &mut Frames, source: &mut Pieces) -> (Vec<Vec<u8>>, RecvError) {
        let mut found = Vec::new();
        loop {
            match frames.next(source) {
                Ok(Some(Frame::Bytes(frame))) => found.push(frame),
                Ok(Some(Frame::Passed(..))) => panic!("nobody has sent any"),
                Ok(None) => {}
                Err(end) => return (found, end),
            }
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_however_they_are_cut(
            messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..20),
            sizes in prop::collection::vec(0..500_usize, 0..100),
            lost in 0..20_usize,
        ) {
            let mut bytes: Vec<u8> = Vec::new();
            let mut ends = Vec::new();
            for message in &messages {
                bytes.extend(python_head(message.len()));
                bytes.extend(message);
                ends.push(bytes.len());
            }
            let kept = bytes.len().saturating_sub(lost);
            bytes.truncate(kept);
            let whole = ends.iter().filter(|end| **end <= kept).count();
            let is_cut = whole < messages.len() && kept > whole.checked_sub(1).map_or(0, |at| ends[at]);
            let mut source = Pieces { bytes, sizes, is_pause: false };
            let (found, end) = all(&mut Frames::new(Head::Python, 1000), &mut source);
            prop_assert_eq!(&found[..], &messages[..whole]);
            prop_assert_eq!(matches!(end, RecvError::Cut), is_cut);
            prop_assert_eq!(matches!(end, RecvError::Closed), !is_cut);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error_and_take_no_more_than_they_are(
            bytes in prop::collection::vec(any::<u8>(), 0..4000),
            is_record in any::<bool>(),
        ) {
            let len = bytes.len();
            let head = if is_record { Head::Record } else { Head::Python };
            let mut source = Pieces { bytes, sizes: vec![], is_pause: false };
            let mut frames = Frames::new(head, u64::MAX);
            let (found, _) = all(&mut frames, &mut source);
            prop_assert!(found.iter().map(Vec::len).sum::<usize>() <= len);
            let taken = frames.body.map_or(0, |(body, _)| body.capacity());
            prop_assert!(taken <= 2 * len + 64, "{taken} bytes for {len}");
        }
    }

    #[test]
    fn lengths_are_checked_before_anything_is_taken() {
        let frame = |bytes: &[u8], most| {
            let mut source = Pieces {
                bytes: bytes.to_vec(),
                sizes: vec![],
                is_pause: false,
            };
            all(&mut Frames::new(Head::Python, most), &mut source)
        };
        assert!(matches!(
            frame(&[0, 0, 1, 1], 256).1,
            RecvError::TooLong {
                len: 257,
                most: 256
            }
        ));
        assert!(matches!(
            frame(&[255, 255, 255, 249, 0], 256).1,
            RecvError::Corrupt
        ));
        let long = [&[255; 4][..], &[0, 0, 0, 0, 0, 0, 0, 2], b"ab"].concat();
        assert_eq!(frame(&long, 256).0, [b"ab".to_vec()]);
        let huge = [&[255; 4][..], &[127; 8]].concat();
        assert!(matches!(
            frame(&huge, u64::MAX >> 2).1,
            RecvError::TooLong { .. }
        ));
        assert_eq!(python_head(5), [0, 0, 0, 5]);
        assert_eq!(python_head(1 << 31)[..5], [255, 255, 255, 255, 0]);
    }
}
